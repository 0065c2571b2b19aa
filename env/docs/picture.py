#!/usr/bin/env python3
"""Make the README's picture: the verdict page of a run on the built-in data, as a browser shows it.

    make picture        writes env/docs/static/verdict.png (needs chromium: env/install-services)
"""
import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "env/docs/static/verdict.png"
WIDTH, HEIGHT, COLOURS = 1100, 1600, 64  # pixels, and colours of the palette


def photograph(page_file: Path) -> bytes:
    """The top of a page as PNG; nothing is loaded from elsewhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.context.set_offline(True)
        page.goto(page_file.as_uri())
        page.wait_for_timeout(2_000)
        found = page.screenshot()
        browser.close()
    return found


def main() -> int:
    from PIL import Image

    from mlfin.core.provenance import read_yaml
    from mlfin.runs.pipeline import run
    from mlfin.runs.temporary_project import temporary_project

    with temporary_project() as settings:
        question = read_yaml(settings.root / "env.yaml") | {"profile": "test", "executor": "ploomber-engine"}
        run(question, settings)
        picture = photograph(settings.reports_dir("default") / "06_publish.html")
    small = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS)
    small.save(PICTURE, optimize=True)
    print(f"picture: {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size / 1024:.0f} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
