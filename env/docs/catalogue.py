"""Catalogues of what is registered: features, labels, models, sources, settings and the keys of env.yaml,
read from the code's own registries."""
import inspect
import re
from configparser import ConfigParser
from pathlib import Path

import pages

UNITS = {"_bps": "basis points", "_ms": "milliseconds", "_minutes": "minutes", "_days": "days", "_mb": "MB",
         "_seconds": "seconds", "_time": "seconds", "_timeout": "seconds"}
SAID = r"(^bars|\b(?:seconds|minutes|milliseconds|days|MB|money|volatility|fraction|share)\b)"
OWN = {"log_level": "the least serious message that is logged: DEBUG, INFO, WARNING or ERROR",
       "serve_port": "port that the service listens on; 0: any that is free",
       "serve_workers": "processes of the service",
       "keras_backend": "what Keras computes with: jax, tensorflow or torch",
       "body_seconds": "seconds in which a request's body must arrive",
       "symbols": "names of the symbols to use", "end": "last moment to use (UTC); null takes all there is",
       "seed": "where random numbers start: the same seed, the same results",
       "features": "specs of the features to compute"}


def code(value) -> str:
    """A value as code; a dash for none."""
    return f"`{value}`" if str(value) else "-"


def plain(text: str) -> str:
    """A text whose signs are no Markdown: `a * b * c` keeps its stars; what stands in backticks is code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_<$\[\]~])", r"\\\1", p) for p in parts)


def unit(key: str, meaning: str) -> str:
    """What a setting counts: by its name's end, or the first unit that the beginning of its meaning names."""
    ends = next((u for end, u in UNITS.items() if key.endswith(end)), None)
    found = re.search(SAID, meaning[:60])
    return ends or (found[1] if found else "-")


def features() -> str:
    """Every registered feature and family, a table a group."""
    from mlfin.cli.feature_commands import catalogue

    head = ("name", "what it is", "spec with default numbers", "reads", "bars back", "unit")
    lines = ["Numbers in a spec are its parameters: `rsi_14` is the RSI over 14 bars. "
             "`mlfin features describe rsi_14` says their ranges.", ""]
    for group, own in catalogue().groupby("group"):
        rows = [(code(r["name"]), plain(r["what"]), code(r["spec"]),
                 plain(r["inputs"]), str(r["lookback"]), r["unit"])
                for r in own.to_dict("records")]
        lines += [f"## {group}", "", pages.table(rows, head), ""]
    return "\n".join(lines)


def labels() -> str:
    """Every kind of label."""
    from mlfin.datasets.label_names import LABEL_KINDS, parse_label

    letters, rows = {"H": "5", "Q": "3", "U": "2", "D": "1"}, []
    for kind, (form, meaning) in LABEL_KINDS.items():
        tail = [letters.get(part, part) for part in form.removeprefix(kind).split("_")]
        label = parse_label(kind + "_".join(tail))
        counted = "class" if label.classes else "fraction"
        rows.append((code(kind), plain(meaning), code(form), code(label.spec), str(label.horizon), counted))
    head = ("name", "what is learnt", "form", "example", "bars ahead in it", "unit")
    note = ("H is a number of bars, Q of classes; U and D count volatilities. Labels are computed in "
            "[datasets/labels](../datasets/labels.ipynb).")
    return f"{note}\n\n{pages.table(rows, head)}"


def models() -> str:
    """Every registered estimator, with the defaults of its parameters."""
    from mlfin.models import zoo

    rows, lines = [], []
    for name in zoo.model_names():
        entry = zoo._entry(name)
        meaning = (entry.build.__doc__ or "").strip().partition("\n")[0]
        rows.append((code(name), meaning, " ".join(entry.tasks)))
        space = entry.space if isinstance(entry.space, dict) else {}
        own = [(code(k), code(v), code(space[k]) if k in space else "-")
               for k, v in zoo.default_parameters(name).items()]
        if own:
            head = ("parameter", "default", "searched by tuning")
            lines += ["", f"## {name}", "", pages.table(own, head)]
    return "\n".join(["Estimators are built in [models/zoo](../models/zoo.ipynb).", "",
                      pages.table(rows, ("name", "what it is", "tasks")), *lines])


def meaning_of(reader, name: str) -> str:
    """The first line of a reader's docstring; readers of files are made, and have none."""
    first = (getattr(reader, "__doc__", None) or "").strip().partition("\n")[0].partition(" Raises ")[0]
    return first or ("Files of any known format." if name == "files" else f"Files in the format {name}.")


def sources() -> str:
    """Every source of bars and of facts."""
    from mlfin.facts.fact_sources import FACT_SOURCES, load_facts
    from mlfin.sources import sources as bars

    rows = []
    for name in bars.load_sources():
        calendar = bars._CALENDARS[name]
        said = "by its address" if callable(calendar) else calendar
        rows.append((code(name), meaning_of(bars.SOURCES[name] or bars._PARTS[name], name), said))
    facts = [(code(name), meaning_of(FACT_SOURCES[name], name)) for name in load_facts()]
    return "\n".join(["A source is named before the colon: `mlfin ingest NAME:PATH`.", "", "## Bars", "",
                      pages.table(rows, ("name", "what it reads", "calendar by default")), "", "## Facts", "",
                      "`mlfin data facts NAME:PATH` puts them into the store.", "",
                      pages.table(facts, ("name", "what it reads"))])


def explained(text: str) -> dict[str, str]:
    """key -> the comment above it, of settings.ini; keys that follow one another share it."""
    found, comment, fresh = {}, [], True
    for line in text.partition("\n[DEFAULT]\n")[2].partition("\n[")[0].splitlines():
        if line.startswith(";"):
            comment = [line[1:].strip()] if fresh else [*comment, line[1:].strip()]
            fresh = False
        elif match := re.match(r"(\w+) *=", line):
            found[match[1]], fresh = " ".join(comment), True
    return found


def settings(root: Path) -> str:
    """Every key of settings.ini, with the default that stands there."""
    from mlfin.core.settings import Settings

    text = (root / "settings.ini").read_text(encoding="utf-8")
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    said = dict(re.findall(r"^    (\w+): .*?# (.+)$", inspect.getsource(Settings), re.M))
    meanings, rows = explained(text) | said | OWN, []
    for key, field in Settings.model_fields.items():
        default = "" if field.is_required() else field.default
        default = parser.defaults().get(key, default)
        meaning = meanings[key]
        rows.append((code(key), plain(meaning), code(default if default != () else ""), unit(key, meaning)))
    note = "Where mlfin runs. `MLFIN_<KEY>` in the environment overrides a key; sections are profiles."
    return f"{note}\n\n{pages.table(rows, ('key', 'what it means', 'default', 'unit'))}"


def questions(text: str) -> dict[str, list[tuple[str, str, str]]]:
    """section -> (key, default, meaning), of env.yaml with its comments."""
    found, section = {}, ""
    for line in text.splitlines():
        if head := re.match(r"# --- (.+)", line):
            section = head[1]
        elif key := re.match(r"(\w+): (.*?)\s+# (.+)", line):
            found.setdefault(section, []).append(key.groups())
        elif key := re.match(r"(\w+): (.*)", line):
            found.setdefault(section, []).append((*key.groups(), ""))
        elif (more := re.match(r"\s+# (.+)", line)) and found:
            name, default, meaning = found[section][-1]
            found[section][-1] = (name, default, f"{meaning} {more[1]}")
    return found


def question(root: Path) -> str:
    """Every key of env.yaml, a table a section."""
    lines = ["What to research. `mlfin run -p KEY=VALUE` changes a key for one run."]
    head = ("key", "what it means", "default", "unit")
    for section, keys in questions((root / "env.yaml").read_text(encoding="utf-8")).items():
        rows = [(code(k), plain(OWN.get(k) or said), code(v), unit(k, said)) for k, v, said in keys]
        lines += ["", f"## {section}", "", pages.table(rows, head)]
    return "\n".join(lines)


def write(root: Path, out: Path) -> int:
    """The catalogues and their index; how many pages."""
    made = {
        "features": ("Features", "What is computed from the past.", features()),
        "labels": ("Labels", "What is learnt.", labels()),
        "models": ("Models", "What learns it.", models()),
        "sources": ("Sources", "Where bars and facts come from.", sources()),
        "settings": ("Settings", "Every key of settings.ini: where it runs.", settings(root)),
        "question": ("Question", "Every key of env.yaml: what to research.", question(root)),
    }
    (out / "catalogue").mkdir(parents=True, exist_ok=True)
    for name, (title, _, text) in made.items():
        (out / f"catalogue/{name}.md").write_text(f"# {title}\n\n{text}\n")
    rows = [(f"[{title}]({name}.md)", line) for name, (title, line, _) in made.items()]
    text = "What there is by name, read from the code when this site was built.\n\n"
    text += pages.table(rows, ("catalogue", "what it holds"))
    (out / "catalogue/index.md").write_text(pages.index("Catalogues", text, list(made)))
    return len(made) + 1
