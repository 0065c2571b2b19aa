"""The main job: its time, beside bare papermill and `ploomber build`, and a run with nothing to do."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers.beside import row as compared

ROOT = Path(__file__).resolve().parents[2]
DATA = ".mlfin/development/default"
KEPT = ("pipeline.yaml", "env.yaml", "settings.ini", "env/requirements.lock", "nbs/pipeline", "mlfin")
MLFIN = "import sys; from mlfin.cli.app import main; main(sys.argv[1:])"
PLOOMBER = ("import sys; sys.argv = ['ploomber', 'build']; "
            "from ploomber_cli.cli import cmd_router; cmd_router()")
BARE = """
import sys
from pathlib import Path
import papermill
from mlfin.core.pipeline_spec import read_pipeline
root = Path.cwd()
specs = read_pipeline(root)
for name, spec in specs.items():
    upstream = {u: {k: str(root / p) for k, p in specs[u].products.items()} for u in spec.upstream}
    product = {k: str(root / p) for k, p in spec.products.items()}
    Path(product["nb"]).parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(str(spec.source), product["nb"], kernel_name="mlfin-cpu", progress_bar=False,
                               parameters={**spec.parameters, "upstream": upstream, "product": product})
"""


def project(folder: Path) -> Path:
    """A copy of what a run needs, with a store, a ledger and an MLflow of its own."""
    for name in KEPT:
        source, dest = ROOT / name, folder / name
        dest.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, dest) if source.is_dir() else shutil.copy2(source, dest)
    return folder


def seconds(folder: Path, code: str, *words: str) -> float:
    """Wall time of a Python process that must succeed."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - begin


def same_products(one: Path, other: Path) -> bool:
    """Whether two projects hold the same results, to the last bit: what the tasks without a grid have made,
    whose files Ploomber names as mlfin does."""
    names = ("bars", "predictions", "scores", "paths", "equity", "positions", "trades", "returns")
    both = ([pd.read_parquet(folder / DATA / f"{name}.parquet") for folder in (one, other)] for name in names)
    return all(mine.equals(theirs) for mine, theirs in both)


def main(times: int = 3) -> None:
    """Print the figures; each pair of runs in turn, in fresh projects, so that both meet the same machine."""
    ours, bare, idle, built, built_idle, equal = [], [], [], [], [], True
    with tempfile.TemporaryDirectory() as place:
        warm = project(Path(place) / "warm")
        seconds(warm, MLFIN, "run", "--cpu")
        for number in range(times):
            a, b, c = (project(Path(place) / f"{kind}{number}") for kind in ("ours", "bare", "ploomber"))
            for folder in (
                a,
                b,
                c,
            ):  # making MLflow's data base takes seconds, once for a project: not what is measured
                shutil.copytree(warm / ".mlfin/development", folder / ".mlfin/development",
                                ignore=lambda _, names: {"default", "default.lock"} & set(names))
            ours.append(seconds(a, MLFIN, "run", "--cpu"))
            bare.append(seconds(b, BARE))
            built.append(seconds(c, PLOOMBER))
            equal &= same_products(a, c)
            for _ in range(3):
                idle.append(seconds(a, MLFIN, "run", "--cpu"))
                built_idle.append(seconds(c, PLOOMBER))
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    first = statistics.median(ours)
    print(f"| `mlfin run`, built-in data, everything anew | {first:.1f} s | 20 s | "
          f"{'met' if first <= 20 else 'missed'} |")
    print(f"| the same beside bare papermill, median of {times} pairs | {ratio:.2f}x | 1.25x | "
          f"{'met' if ratio <= 1.25 else 'missed'} |")
    nothing = statistics.median(idle)
    print(f"| `mlfin run` with nothing to do, median of {len(idle)} | {nothing:.2f} s | 0.35 s | "
          f"{'met' if nothing <= 0.35 else 'missed'} |")
    compared("everything anew, beside `ploomber build` of the same pipeline", first, statistics.median(built),
             "s", equal, 1.0)
    compared("nothing to do, beside `ploomber build`", nothing, statistics.median(built_idle), "s", None, 1.0)


if __name__ == "__main__":
    main()
