"""What no file of the tree may say, and what files must say alike."""
import importlib.util
import posixpath
import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mlfin

# Pieces are joined here, so that this file is not its own finding.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.$}~)-])/(?:home/(?!some)\w|root/|Users/(?!some)\w|work/\w|tmp/"
                                    r"w/)|\b[A-Z]:\\\\?Users",
    "a registry or a place to download from": "|".join((
        r"pypi" r"\.org", r"files\.python" r"hosted", r"download" r"\.pytorch", r"anaconda" r"\.(?:org|com)",
        r"registry\.npm" r"js", r"raw\.github" r"usercontent", r"github\.com/[\w./-]+/releases/" r"download",
        r"huggingface" r"\.co", r"--(?:extra-)?index" r"-url\b")),
    "a CDN": "|".join((r"//cdn" r"\.", r"jsdel" r"ivr", r"unp" r"kg\.com")),
    "somebody's address": r"\b[\w.+-]+" "@" r"(?!example\.)[\w-]+\.(?:com|org|net|io|dev|ai)\b",
    "work put off": r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b",
    "a test switched off without a condition": r"pytest\.mark\.skip" r"\b"}
SUBJECT = 72  # characters in the first line of a commit's message
TEXT = re.compile(r"\.(py|ipynb|md|toml|ini|ya?ml|json|lock|in|txt|cfg|sh|html|css|js|csv)$|(^|/)[^.]+$")


def findings(texts: dict[str, str]) -> list[str]:
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match[0]}"
        for path, text in texts.items()
        for what, pattern in FORBIDDEN.items()
        for match in re.finditer(pattern, text)
        if not (what == "a CDN" and path.startswith("tests/"))
    ]  # tests plant such addresses, and reach none


def test_no_file_says_what_it_must_not(root, tree):
    texts = {path: (root / path).read_text() for path in tree if TEXT.search(path)}
    assert "Makefile" in texts and "env/requirements.lock" in texts
    assert not (bad := findings(texts)), "\n".join(bad)


@pytest.mark.parametrize("text", [
    '"/' 'home/ann/data.csv"', "see /" "root/.cache", r"C:\Us" r"ers\ann", "https://pyp" "i.org/simple",
    "https://cd" "n.plot.ly/x.js", "pip install --index" "-url x", "mail ann" "@gmail.com",
    "# TO" "DO: later", "@pytest.mark.sk" "ip(reason='x')"])
def test_planted_texts_are_seen(text):
    assert len(findings({"a.py": f"first line\n{text}\n"})) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "{root}/home",
        "/home/somebody/x",
        "../work/x",
        "mlfin/home.ipynb",
        "ann@example.org",
        "@pytest.mark.skipif(x)",
    ],
)
def test_innocent_texts_are_not(text):
    assert findings({"a.py": text}) == []


def test_version_is_the_changelog_s(root):
    latest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (root / "CHANGELOG.md").read_text(), re.M)
    assert latest and latest[1] == mlfin.__version__


def test_licence_is_whole(root):
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


def test_lock_is_exact_hashed_and_fits_the_project(root):
    lock = re.sub(r"^#.*\n", "", (root / "env/requirements.lock").read_text(), flags=re.M)
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert len(entries) > 100
    assert [entry.splitlines()[0] for entry in entries
            if not re.match(r"[\w.-]+==\S+", entry) or "--hash=sha256:" not in entry] == []
    locked = {}
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==(\S+)", entry).groups()
        locked.setdefault(canonicalize_name(name), []).append(version)

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + (root / "env/tools.in").read_text().splitlines()
    lines += [
        line for extra, group in project["optional-dependencies"].items() if extra != "gpu" for line in group
    ]
    bad = []
    for wanted in (Requirement(line) for line in lines if line and not line.startswith(("#", "mlfin"))):
        versions = locked.get(canonicalize_name(wanted.name), [])
        if not versions or not all(wanted.specifier.contains(version) for version in versions):
            bad.append(f"{wanted}: the lock has {', '.join(versions) or 'nothing'}")
    assert not bad, "\n".join([*bad, "Hint: make lock"])


def too_long(subjects: list[str]) -> list[str]:
    return [subject for subject in subjects if len(subject) > SUBJECT]


def test_subjects_of_the_latest_commits_are_short(root):
    """The commits that are on their way, those after `origin/main`; where there is no such branch, the last
    one."""
    def log(*which):
        return subprocess.run(["git", "log", "--format=%s", *which], cwd=root, capture_output=True, text=True)
    ahead = log("origin/main..HEAD")
    subjects = (ahead if ahead.returncode == 0 else log("-1")).stdout.splitlines()
    assert not (bad := too_long(subjects)), "\n".join(bad)


def test_a_planted_long_subject_is_seen():
    assert too_long(["Gate: a refusal names the row", "x" * 73]) == ["x" * 73] and too_long(["x" * 72]) == []


def test_moved_names_lead_to_what_is_there(root):
    """Each dotted name on the right of `env/moved.md` is a module, or something in one."""
    rows = re.findall(r"^\| .+? \| (.+) \|$", (root / "env/moved.md").read_text(), re.M)
    names = sorted({name for row in rows for name in re.findall(r"`(mlfin(?:\.\w+)+)`", row)})
    missing = [name for name in names if not resolves(name)]
    assert len(names) > 200 and not missing, "\n".join(missing)
    assert not resolves("mlfin.store.nothing") and not resolves("mlfin.core.errors.Nothing")


def resolves(name: str) -> bool:
    parts = name.split(".")
    modules = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    found = max((module for module in modules if find_spec_of(module)), key=len)
    thing = importlib.import_module(found)
    for part in parts[found.count(".") + 1:]:
        if not hasattr(thing, part): return False
        thing = getattr(thing, part)
    return True


def find_spec_of(name: str) -> bool:
    try: return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError: return False  # its parent is no package


def lost_notebooks(path: str, text: str, there: set[str]) -> list[str]:
    """References of a text to notebooks that are not among `there`: `room/NN_name`, and the targets of links.
    A name that ends in `_mine` is the reader's own, still to be written."""
    rooms = "|".join(sorted({name.split("/")[1] for name in there if name.count("/") == 2}))
    named = re.findall(rf"(?<![\w.-])((?:{rooms})/\d\d_\w+)", text)
    wanted = {f"nbs/{name}.ipynb": name for name in named if not name.endswith("_mine")}
    for target in re.findall(r"\]\(([\w./-]+\.ipynb)", text):
        wanted[posixpath.normpath(posixpath.join(posixpath.dirname(path), target))] = target
    return [f"{path}: no notebook {name}" for target, name in wanted.items() if target not in there]


def test_prose_names_notebooks_that_are_there(root, tree, notebooks, dashboards):
    """In every cell (so in docstrings too) and in the pages beside the notebooks."""
    there = {path for path in tree if path.endswith(".ipynb")}
    texts = [(nb.path, cell.source) for nb in [*notebooks, *dashboards] for cell in nb.cells]
    texts += [(path, (root / path).read_text()) for path in tree
              if path.endswith(".md") and path not in ("env/moved.md", "CHANGELOG.md")]  # they tell the past
    bad = [line for path, text in texts for line in lost_notebooks(path, text, there)]
    assert len(texts) > 1000 and not bad, "\n".join(bad)


@pytest.mark.parametrize("text, lost", [
    ("see `store/01_old`", "store/01_old"), ("`nbs/store/01_old.ipynb`", "store/01_old"),
    ("[a](../store/01_old.ipynb)", "../store/01_old.ipynb"), ("[a](02_old.ipynb#x)", "02_old.ipynb"),
    ("[a](../store/01_store.ipynb), `store/01_store`, [b](../core/01_errors.ipynb)", ""),
    ("`nbs/store/29_mine.ipynb`, /v1/store/17, `my.store/01_old`", "")])
def test_a_planted_reference_to_no_notebook_is_seen(text, lost):
    there = {"nbs/store/01_store.ipynb", "nbs/core/01_errors.ipynb"}
    found = lost_notebooks("nbs/core/01_errors.ipynb", text, there)
    assert found == ([f"nbs/core/01_errors.ipynb: no notebook {lost}"] if lost else [])
