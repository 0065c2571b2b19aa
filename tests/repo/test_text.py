"""What no file of the tree may say, and what files must say alike."""
import re
import tomllib

import pytest

import mlfin

# Pieces are joined here, so that this file is not its own finding.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.$}~)-])/(?:home/\w|root/|Users/\w|work/\w|tmp/w/)|\b[A-Z]:\\\\?Users",
    "a registry, a CDN or a place to download from": "|".join((
        r"pypi" r"\.org", r"files\.python" r"hosted", r"download" r"\.pytorch", r"anaconda" r"\.(?:org|com)",
        r"registry\.npm" r"js", r"cdn" r"\.", r"jsdel" r"ivr", r"unp" r"kg\.com", r"raw\.github" r"usercontent",
        r"github\.com/[\w./-]+/releases/" r"download", r"huggingface" r"\.co", r"--(?:extra-)?index" r"-url\b")),
    "somebody's address": r"\b[\w.+-]+" "@" r"(?!example\.)[\w-]+\.(?:com|org|net|io|dev|ai)\b",
    "work put off": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b",
    "a test switched off without a condition": r"pytest\.mark\.skip" r"\b",
}
TEXT = re.compile(r"\.(py|ipynb|md|toml|ini|ya?ml|json|lock|in|txt|cfg|sh|html|css|js|csv)$|(^|/)[^.]+$")


def findings(texts: dict[str, str]) -> list[str]:
    return [f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match[0]}" for path, text in texts.items()
            for what, pattern in FORBIDDEN.items() for match in re.finditer(pattern, text)]


def test_no_file_says_what_it_must_not(root, tree):
    texts = {path: (root / path).read_text() for path in tree if TEXT.search(path)}
    assert "Makefile" in texts and "env/requirements.lock" in texts
    assert not (bad := findings(texts)), "\n".join(bad)


@pytest.mark.parametrize("text", [
    '"/' 'home/ann/data.csv"', "see /" "root/.cache", r"C:\Us" r"ers\ann", "https://pyp" "i.org/simple",
    "cd" "n.plot.ly/x.js", "pip install --index" "-url x", "mail ann" "@gmail.com",
    "# TO" "DO: later", "@pytest.mark.sk" "ip(reason='x')"])
def test_planted_texts_are_seen(text):
    assert len(findings({"a.py": f"first line\n{text}\n"})) >= 1


@pytest.mark.parametrize("text", [
    "{root}/home", "../work/x", "mlfin/home.ipynb", "ann@example.org", "@pytest.mark.skipif(x)"])
def test_innocent_texts_are_not(text):
    assert findings({"a.py": text}) == []


def test_version_is_the_changelog_s(root):
    latest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (root / "CHANGELOG.md").read_text(), re.M)
    assert latest and latest[1] == mlfin.__version__


def test_licence_is_whole(root):
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_lock_is_exact_hashed_and_covers_the_project(root):
    lock = (root / "env/requirements.lock").read_text()
    entries = re.split(r"\n(?=\S)", "\n" + re.sub(r"^#.*\n", "", lock, flags=re.M).strip())
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries
            if not re.match(r"[\w.-]+==\S+", entry.strip()) or "--hash=sha256:" not in entry] == []
    locked = {re.split(r"==", entry.strip())[0] for entry in entries}
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [line for name, lines in extras.items() if name != "gpu" for line in lines]
    names = {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in wanted} - {"mlfin"}
    assert names | {"pip", "setuptools", "uv"} <= locked, sorted(names - locked)
