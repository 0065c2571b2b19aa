"""What a user gets: a wheel that holds everything, a public API that resolves, imports that cost little."""
import importlib
import importlib.metadata
import json
import pkgutil
import zipfile
from pathlib import Path

import pytest

HEAVY = ("fastapi", "jax", "keras", "lightgbm", "mlflow", "ploomber", "torch", "vectorbt", "xgboost")
SECONDS = 0.5

# CPU time, which other processes on the machine do not lengthen; pandas is there before, since every user has
# it.
# Each call of `measure` is a process of its own, forked where nothing else was imported: the interpreter
# starts once.
MEASURE = """
import json, os, sys, time
import pandas, numpy

def measure(names):
    begin = time.process_time()
    for name in names.split(","):
        __import__(name)
    seconds = time.process_time() - begin
    print(json.dumps([seconds, sorted({name.split(".")[0] for name in sys.modules}
                                      & set(sys.argv[1].split(",")))]), flush=True)

for names in sys.argv[2:]:
    if not (child := os.fork()):
        measure(names)
        os._exit(0)
    if os.waitpid(child, 0)[1]: sys.exit(f"import {names} failed")
"""


def packages(root: Path) -> list[str]:
    folders = (path.parent.relative_to(root) for path in root.glob("mlfin/**/__init__.py"))
    return sorted(folder.as_posix().replace("/", ".") for folder in folders)


def modules(root: Path) -> list[str]:
    found = (
        path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        for path in root.glob("mlfin/*/*.py")
    )
    return sorted(name for name in found if not name.rsplit(".", 1)[-1].startswith("_"))


def pytest_generate_tests(metafunc):
    root = Path(__file__).resolve().parents[2]
    for argument, names in (("package", packages), ("module", modules)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names(root))


def not_public(names: list[str], package) -> list[str]:
    """What is wrong with the `__all__` of a package."""
    bad = [] if names == sorted(set(names)) else ["is not sorted, or names something twice"]
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    bad += [
        f"{name} is a module of it, too: once that is imported, it hides the name"
        for name in names
        if name in modules
    ]
    return bad + [f"{name} does not resolve" for name in names if not hasattr(package, name)]


def measured(names: list[str], run_python, root: Path) -> list[tuple[float, list[str]]]:
    """CPU seconds and heavy packages that importing each of `names` brings, each in a process of its own."""
    lines = run_python("-c", MEASURE, ",".join(HEAVY), *names, cwd=root).splitlines()
    assert len(lines) == len(names), lines
    return [tuple(json.loads(line)) for line in lines]


def costs(names: list[str], run_python, root: Path) -> dict[str, tuple[float, list[str]]]:
    """What importing each of `names` costs; the best of up to three, of several together once: nobody asks
    for their time."""
    best = dict(zip(names, measured(names, run_python, root), strict=True))
    for _ in range(2):
        slow = [
            name
            for name, (seconds, heavy) in best.items()
            if seconds >= SECONDS and not heavy and "," not in name
        ]
        for name, (seconds, heavy) in zip(
            slow, measured(slow, run_python, root) if slow else [], strict=True
        ):
            best[name] = min(best[name][0], seconds), heavy
    return best


@pytest.fixture(scope="module")
def cost(run_python, root) -> dict[str, tuple[float, list[str]]]:
    """Of each package, and of all modules together."""
    return costs([*packages(root), ",".join(modules(root))], run_python, root)


def test_public_names_are_sorted_and_resolve(package):
    module = importlib.import_module(package)
    assert module.__doc__, f"{package} needs a docstring"
    assert package == "mlfin" or hasattr(module, "__all__"), f"{package} needs a sorted __all__"
    assert not (bad := not_public(list(getattr(module, "__all__", [])), module)), "\n".join(bad)


def test_importing_a_package_costs_little(package, cost):
    seconds, heavy = cost[package]
    assert not heavy, f"import {package} brings {', '.join(heavy)}"
    assert seconds < SECONDS, (
        f"import {package} takes {seconds:.2f} s beyond pandas, must be below {SECONDS} s"
    )


def test_no_module_imports_what_is_heavy(cost, run_python, root):
    _, heavy = cost[",".join(modules(root))]
    if heavy:  # name the culprits
        culprits = costs(modules(root), run_python, root)
        pytest.fail(
            "\n".join(
                f"import {name} brings {', '.join(found)}" for name, (_, found) in culprits.items() if found
            )
        )


def test_the_wheel_holds_everything_and_works(copy_of_tree, tree, run_python, tmp_path):
    project = copy_of_tree()
    run_python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), cwd=project)
    (wheel,) = tmp_path.glob("mlfin-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [path for path in tree if path.startswith("mlfin/") and path not in names]
    strange = sorted(name for name in names if not name.startswith("mlfin/") and ".dist-info/" not in name)
    assert not missing and not strange, f"missing: {missing}\nstrange: {strange}"
    assert any(name.endswith("licenses/LICENSE") for name in names)

    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    code = ("import sys, importlib; print(*{importlib.import_module(n).__file__ for n in "
            "sys.argv[1:]}, sep='\\n')")
    files = run_python("-P", "-c", code, *packages(project), cwd=tmp_path, PYTHONPATH=str(installed)).split()
    assert files and all(Path(file).is_relative_to(installed) for file in files), files


def test_what_the_metadata_points_to_exists():
    points = importlib.metadata.distribution("mlfin").entry_points
    assert {"mlfin"} <= {point.name for point in points if point.group == "console_scripts"}
    missing = []
    for point in points:
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            missing.append(f"{point.group} {point.name} = {point.value}: {error}")
    assert not missing, "\n".join(missing)


def test_a_planted_bad_name_is_seen():
    assert not_public(["dumps", "loads"], json) == []
    assert len(not_public(["loads", "dumps"], json)) == 1
    assert not_public(["dumps", "nothing"], json) == ["nothing does not resolve"]
    assert len(not_public(["decoder"], json)) == 1


def test_a_planted_heavy_import_is_seen(run_python, tmp_path):
    (tmp_path / "torch.py").write_text("x = 1\n")
    (tmp_path / "planted.py").write_text("import torch\n")
    (tmp_path / "slow.py").write_text(
        "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass\n"
    )
    found = measured(["planted", "slow"], run_python, tmp_path)
    assert found[0][1] == ["torch"] and found[1][0] > SECONDS and not found[1][1]
