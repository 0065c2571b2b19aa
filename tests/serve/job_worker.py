"""A worker of the queue in a process of its own: job_worker.py ROOT [SECONDS]; it knows two kinds of its own."""
import sys
import threading
from pathlib import Path

from mlfin.core.settings import load_settings
from mlfin.serve.jobs import Jobs, Order, register_kind

ROOT = Path(__file__).parents[2]


def settings_of(folder: Path):
    """The test profile, in another folder."""
    for name in ("settings.ini", "env.yaml", "pipeline.yaml"):
        if not (folder / name).exists():
            (folder / name).write_text((ROOT / name).read_text())
    return load_settings("test", root=folder)


def register(folder: Path) -> None:
    """`note` adds a line to a file; `python` runs code, in a lane."""
    register_kind("note", lambda s, p: Order(["/bin/sh", "-c", 'echo "$1" >> "$2"', "-", str(p["n"]), str(folder / "notes")], p.get("lane"),
                                             p.get("light", False)))
    register_kind("python", lambda s, p: Order([sys.executable, "-c", p["code"], "{events}"], p.get("lane"), p.get("light", False)))


if __name__ == "__main__":
    place, stop = Path(sys.argv[1]), threading.Event()
    register(place)
    jobs = Jobs(settings_of(place), grace=0.5)
    if len(sys.argv) > 2:
        threading.Timer(float(sys.argv[2]), stop.set).start()
    print("ready", flush=True)
    jobs.run_worker(stop, lambda job: print(job.id, job.state, flush=True), poll=0.02)
