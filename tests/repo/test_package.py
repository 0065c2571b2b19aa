"""What a user gets: a wheel that holds everything, a public API that resolves, imports that cost little."""
import importlib
import importlib.metadata
import json
import zipfile
from pathlib import Path

import pytest

HEAVY = ("fastapi", "jax", "keras", "lightgbm", "mlflow", "ploomber", "torch", "vectorbt", "xgboost")
SECONDS = 0.5

# CPU time, which other processes on the machine do not lengthen; pandas is there before, since every user has it.
MEASURE = """
import json, sys, time
import pandas, numpy
begin = time.process_time()
for name in sys.argv[1].split(","):
    __import__(name)
seconds = time.process_time() - begin
print(json.dumps([seconds, sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[2].split(",")))]))
"""


def packages(root: Path) -> list[str]:
    folders = (path.parent.relative_to(root) for path in root.glob("mlfin/**/__init__.py"))
    return sorted(folder.as_posix().replace("/", ".") for folder in folders)


def modules(root: Path) -> list[str]:
    found = (path.relative_to(root).with_suffix("").as_posix().replace("/", ".") for path in root.glob("mlfin/*/*.py"))
    return sorted(name for name in found if not name.rsplit(".", 1)[-1].startswith("_"))


def pytest_generate_tests(metafunc):
    root = Path(__file__).resolve().parents[2]
    for argument, names in (("package", packages), ("module", modules)):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names(root))


def not_public(names: list[str], package) -> list[str]:
    """What is wrong with the `__all__` of a package."""
    bad = [] if names == sorted(set(names)) else ["is not sorted, or names something twice"]
    return bad + [f"{name} does not resolve" for name in names if not hasattr(package, name)]


def costs(name: str, run_python, root: Path) -> tuple[float, list[str]]:
    """CPU seconds and heavy packages that importing `name` brings; the best of up to three."""
    best, heavy = float("inf"), []
    for _ in range(3):
        seconds, heavy = json.loads(run_python("-c", MEASURE, name, ",".join(HEAVY), cwd=root))
        best = min(best, seconds)
        if best < SECONDS or heavy:
            break
    return best, heavy


def test_public_names_are_sorted_and_resolve(package):
    module = importlib.import_module(package)
    assert module.__doc__, f"{package} needs a docstring"
    assert package == "mlfin" or hasattr(module, "__all__"), f"{package} needs a sorted __all__"
    assert not (bad := not_public(list(getattr(module, "__all__", [])), module)), "\n".join(bad)


def test_importing_a_package_costs_little(package, run_python, root):
    seconds, heavy = costs(package, run_python, root)
    assert not heavy, f"import {package} brings {', '.join(heavy)}"
    assert seconds < SECONDS, f"import {package} takes {seconds:.2f} s beyond pandas, must be below {SECONDS} s"


def test_no_module_imports_what_is_heavy(run_python, root):
    seconds, heavy = costs(",".join(modules(root)), run_python, root)
    if heavy:  # name the culprits
        culprits = {module: costs(module, run_python, root)[1] for module in modules(root)}
        pytest.fail("\n".join(f"import {name} brings {', '.join(found)}" for name, found in culprits.items() if found))


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
    code = "import sys, importlib; print(*{importlib.import_module(n).__file__ for n in sys.argv[1:]}, sep='\\n')"
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


def test_a_planted_heavy_import_is_seen(run_python, tmp_path):
    (tmp_path / "torch.py").write_text("x = 1\n")
    (tmp_path / "planted.py").write_text("import torch\n")
    _, heavy = costs("planted", run_python, tmp_path)
    assert heavy == ["torch"]
