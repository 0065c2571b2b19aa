"""Other programs beside ours. `peer_NAME.py` of this folder runs in `.bench` (`make bench`), and prints
a JSON line for each measure: `{"name": ..., "seconds": [...], "checksum": ...}`; the checksum says that it
computed the same."""
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
FOLDER = Path(__file__).resolve().parent
PYTHON = FOLDER.parents[2] / ".bench/bin/python"
MISSING = "not measured: make bench"


def there() -> bool:
    """Whether the peers' environment is made."""
    return PYTHON.is_file()


def ask(name: str, *words: object) -> dict[str, dict]:
    """Measure -> the line that `peer_NAME.py` printed of it; ends the benchmark where the script fails."""
    command = [str(PYTHON), str(FOLDER / f"peer_{name}.py"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode: raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


def in_turn(calls: dict[str, Callable[[], T]], times: int) -> dict[str, list[T]]:
    """What each call gave in so many rounds; every second round goes backwards, so that each meets the same
    machine."""
    found: dict[str, list[T]] = {name: [] for name in calls}
    for number in range(times):
        for name in sorted(calls, key=list(calls).index, reverse=bool(number % 2)):
            found[name].append(calls[name]())
    return found


def row(measure: str,
        ours: float,               # in `unit`
        theirs: float | None,      # in `unit`; None: the peer is not there
        unit: str,
        equal: bool | None,        # whether both gave the same; None: there is nothing to compare
        bound: float | None = None, # of ours / theirs, at most
        ) -> None:
    """Print one comparison, with the load under which it was made."""
    limit = "" if bound is None else f"<= {bound:g}x"
    if theirs is None: return print(f"| {measure} | {MISSING} | {limit} |  |")
    ratio, same = ours / theirs, {None: "", True: "equal", False: "NOT EQUAL"}[equal]
    told = f"{ratio:.2f}x ({ours:,.4g} / {theirs:,.4g} {unit}{f', {same}' if same else ''}, " \
           f"load {os.getloadavg()[0]:.1f})"
    verdict = "missed" if equal is False else "" if bound is None else "met" if ratio <= bound else "missed"
    print(f"| {measure} | {told} | {limit} | {verdict} |", flush=True)
