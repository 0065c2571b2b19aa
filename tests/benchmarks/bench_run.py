"""The main job: its time, what orchestration adds to bare papermill, and a run with nothing to do."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("pipeline.yaml", "env.yaml", "settings.ini", "env/requirements.lock", "nbs/pipeline", "mlfin")
MLFIN = "import sys; from mlfin.cli.app import main; main(sys.argv[1:])"
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


def main(times: int = 3) -> None:
    """Print the figures; each pair of runs in turn, in fresh projects, so that both meet the same machine."""
    ours, bare, idle = [], [], []
    with tempfile.TemporaryDirectory() as place:
        warm = project(Path(place) / "warm")
        seconds(warm, MLFIN, "run", "--cpu")
        for number in range(times):
            a, b = (project(Path(place) / f"{kind}{number}") for kind in ("ours", "bare"))
            for folder in (
                a,
                b,
            ):  # making MLflow's data base takes seconds, once for a project: not what is measured
                shutil.copytree(warm / ".mlfin/development", folder / ".mlfin/development",
                                ignore=lambda _, names: {"default", "default.lock"} & set(names))
            ours.append(seconds(a, MLFIN, "run", "--cpu"))
            bare.append(seconds(b, BARE))
            idle += [seconds(a, MLFIN, "run", "--cpu") for _ in range(3)]
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    first = statistics.median(ours)
    print(f"| `mlfin run`, built-in data, everything anew | {first:.1f} s | 120 s | "
          f"{'met' if first <= 120 else 'missed'} |")
    print(f"| the same beside bare papermill, median of {times} pairs | {ratio:.2f}x | 1.25x | "
          f"{'met' if ratio <= 1.25 else 'missed'} |")
    nothing = statistics.median(idle)
    print(f"| `mlfin run` with nothing to do, median of {len(idle)} | {nothing:.2f} s | 1.5 s | "
          f"{'met' if nothing <= 1.5 else 'missed'} |")


if __name__ == "__main__":
    main()
