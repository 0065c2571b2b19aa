"""Execute copies of the notebooks and keep their outputs."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SHOW_A_RUN = ("first_run", "for_stakeholders")  # guides that show what the last run left


def sources(root: Path) -> list[Path]:
    """Every notebook that becomes a page; the pipeline's tasks are reports, and the warehouse's revisions no
    lessons."""
    found = sorted((root / "nbs").glob("**/*.ipynb"))
    skipped = {"pipeline", "revisions", ".ipynb_checkpoints"}
    return [p for p in found if not skipped & set(p.relative_to(root / "nbs").parts)]


def package_hash(root: Path) -> str:
    """Hash of everything that a lesson's outputs depend on beside its own text."""
    files = [*sorted((root / "mlfin").glob("**/*.py")), root / "env/requirements.lock"]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def run(root: Path, work: Path, workers: int) -> tuple[int, int]:
    """Executes what is not yet executed as it stands; (executed, kept). Raises `SystemExit` where a notebook
    fails."""
    base = package_hash(root) + os.environ.get("MLFIN_EXAMPLE_DATA", "")
    keys_file = work / "keys.json"
    before = json.loads(keys_file.read_text()) if keys_file.is_file() else {}
    keys, todo = {}, []
    for path in sources(root):
        name = path.relative_to(root / "nbs").as_posix()
        copy = work / "nbs" / name
        keys[name] = hashlib.sha256(base.encode() + path.read_bytes()).hexdigest()
        if before.get(name) == keys[name] and copy.is_file():
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        todo.append(copy)
    for copy in (work / "nbs").rglob("*.ipynb"):  # of a notebook that was renamed or taken away
        if copy.relative_to(work / "nbs").as_posix() not in keys:
            copy.unlink()
    of_run = [copy for copy in todo if copy.stem in SHOW_A_RUN]
    alone = [copy for copy in todo if copy.stem not in SHOW_A_RUN]
    failed = bool(alone) and not _execute(root, work, alone, workers)
    failed = (bool(of_run) and not _execute_after_a_run(root, work, of_run, workers)) or failed
    whole = {
        k: v for k, v in keys.items() if not failed or work / "nbs" / k not in todo or _has_run(root, work, k)
    }
    keys_file.write_text(json.dumps(whole))
    if failed:
        raise SystemExit("docs: a notebook failed; see above.")
    return len(todo), len(keys) - len(todo)


def _has_run(root: Path, work: Path, name: str) -> bool:
    """Whether a copy is no longer the source: it was saved with its outputs."""
    return (work / "nbs" / name).read_bytes() != (root / "nbs" / name).read_bytes()


def _execute_after_a_run(root: Path, work: Path, todo: list[Path], workers: int) -> bool:
    """The same in a temporary project that has run on the built-in data: there is something to show."""
    from mlfin.core.provenance import read_yaml
    from mlfin.runs.pipeline import run as run_pipeline
    from mlfin.runs.temporary_project import temporary_project

    with temporary_project() as settings:
        asked = {"profile": "test", "executor": "ploomber-engine"}
        run_pipeline(read_yaml(settings.root / "env.yaml") | asked, settings)
        project = {"MLFIN_ROOT": str(settings.root), "MLFIN_PROFILE": "test"}
        return _execute(root, work, todo, workers, project)


def _execute(root: Path, work: Path, todo: list[Path], workers: int, env: dict | None = None) -> bool:
    """nbdev-test in a tree that holds only what is to be executed, whose outputs it saves; whether all
    passed."""
    stage = work / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    for path in todo:
        place = stage / path.relative_to(work / "nbs")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    command = [
        str(Path(sys.executable).with_name("nbdev-test")),
        str(stage),
        "--n-workers",
        str(workers),
        "--save",
    ]
    passed = subprocess.run(command, cwd=root, env=os.environ | (env or {})).returncode == 0
    for path in todo:
        shutil.copy(stage / path.relative_to(work / "nbs"), path)
    shutil.rmtree(stage)
    return passed
