#!/usr/bin/env python3
"""Build the documentation site into _docs/ from the executed notebooks; no network, neither here nor when it
is read.

    make docs                     everything
    make docs ARGS=--no-execute   pages only, with the outputs of the last time
    make docs ARGS='--data FOLDER'  examples on your own bars: FOLDER/crypto_minutes.csv, FOLDER/forex.csv

1. Notebooks are copied to _proc/docs and executed there (nbdev-test --save); one that was executed with the
same text
   and the same package is not executed again.
2. Each becomes a page: directives and imports out of the way, Plotly figures as HTML, an anchor for every
symbol.
3. Index pages, the API and command-line references, the glossary and llms.txt are written.
4. Sphinx renders the pages; then every link, anchor and asset is checked.
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import check  # noqa: E402
import execute  # noqa: E402
import pages  # noqa: E402
import reference  # noqa: E402

WORK, SITE = ROOT / "_proc/docs", ROOT / "_docs"


def say(began: float, what: str) -> None:
    print(f"docs: {time.monotonic() - began:4.0f} s  {what}", flush=True)


def render(source: Path, site: Path) -> None:
    """Sphinx over the pages; its doctrees stay out of the site."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2", "-b", "html",
               "-d", str(WORK / "doctrees"), "-c", str(ROOT / "env/docs"), str(source), str(site)]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-execute", action="store_true", help="take the outputs of the last time")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that execute notebooks (default: 2)"
    )
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, help="bars for the examples, instead of simulated ones"
    )
    options, began = parser.parse_args(), time.monotonic()
    if options.data is not None:
        if not options.data.is_dir():
            parser.error(f"--data {options.data}: no such folder")
        os.environ["MLFIN_EXAMPLE_DATA"] = str(options.data.resolve())
    if not options.no_execute:
        done, kept = execute.run(ROOT, WORK, options.workers)
        say(began, f"{done} notebooks executed, {kept} as they were")
    written = pages.write(ROOT, WORK / "nbs", WORK / "pages")
    written += reference.write(ROOT, WORK / "pages")
    say(began, f"{written} pages written")
    render(WORK / "pages", SITE)
    reference.llms(ROOT, WORK / "pages", SITE)
    say(began, "rendered")
    wrong = check.site(SITE, ROOT)
    for line in wrong:
        print(f"docs: {line}", file=sys.stderr)
    say(
        began,
        f"{len(wrong)} broken links, anchors or assets"
        if wrong
        else f"all links hold: {SITE.name}/index.html",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
