"""What must hold for a site that was built: links and anchors lead somewhere, nothing is loaded from
elsewhere."""
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

AS_WRITTEN = ("code", "pre", "script", "style", "textarea")  # what stands in these is shown as it is
RAW = {
    "LaTeX": re.compile(r"\$\$|\\(?:frac|tfrac|sum|sqrt|left|text|hat|bar|sigma|rho|ln)\b"),
    "a Markdown table": re.compile(r"\|\s*:?-{3,}:?\s*\|"),
}


class Page(HTMLParser):
    """What a page links to, loads, says, and can be linked at."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.assets, self.anchors = [], [], set()
        self.text, self.inside = [], 0  # visible text; how many elements of AS_WRITTEN are open
        self.feed(text)

    def handle_data(self, data):
        if not self.inside:
            self.text.append(data)

    def handle_endtag(self, tag):
        self.inside -= tag in AS_WRITTEN

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.inside += tag in AS_WRITTEN
        self.anchors.update(v for v in (values.get("id"), values.get("name") if tag == "a" else None) if v)
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source", "embed") and values.get("src"):
            self.assets.append(values["src"])
        if tag == "link" and "stylesheet" in (values.get("rel") or "") + (values.get("as") or ""):
            self.assets.append(values.get("href") or "")


def _read(site: Path) -> dict[Path, Page]:
    return {p: Page(p.read_text(encoding="utf-8")) for p in sorted(site.rglob("*.html"))
            if "_static" not in p.parts}  # there lie the theme's own templates


def _link(site: Path, page: Path, href: str, known: dict[Path, Page]) -> str | None:
    """What is wrong with a link of a page; None where it leads somewhere."""
    parts = urlsplit(href)
    if parts.scheme or parts.netloc:
        return None
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return f"{page.relative_to(site)}: no page {href}"
    if parts.fragment and target in known and unquote(parts.fragment) not in known[target].anchors:
        return f"{page.relative_to(site)}: no place {href}"
    return None


def raw(text: str) -> list[str]:
    """What stands in a page's text as it was written, where a reader wants it rendered."""
    return [f"shows {what}: {found[0]}" for what, kind in RAW.items() if (found := kind.search(text))]


def site(folder: Path, root: Path) -> list[str]:
    """Every broken link or anchor, every asset from elsewhere, every symbol of `_modidx.py` without its
    place."""
    folder = folder.resolve()
    known, wrong = _read(folder), []
    for page, read in known.items():
        wrong += [w for href in dict.fromkeys(read.links) if (w := _link(folder, page, href, known))]
        wrong += [f"{page.relative_to(folder)}: {said}" for said in raw("".join(read.text))]
        for asset in read.assets:
            if urlsplit(asset).netloc:
                wrong.append(f"{page.relative_to(folder)}: loads {asset}")
            elif not (page.parent / unquote(urlsplit(asset).path)).exists() and not asset.startswith("data:"):
                wrong.append(f"{page.relative_to(folder)}: no asset {asset}")
    for style in folder.rglob("*.css"):
        if "url(http" in (text := style.read_text(encoding="utf-8")) or '@import "http' in text:
            wrong.append(f"{style.relative_to(folder)}: loads from elsewhere")
    for symbols in runpy.run_path(str(root / "mlfin/_modidx.py"))["d"]["syms"].values():
        for symbol, (place, _) in symbols.items():
            if ".revisions." in symbol:  # migrations are no lessons and have no page
                continue
            path, _, anchor = place.partition("#")
            page = known.get(folder / path)
            if page is None or anchor not in page.anchors:
                wrong.append(f"_modidx.py: {symbol} has no place {place}")
    return wrong
