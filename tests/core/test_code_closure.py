"""What a text reaches: a change that could alter a number changes the hash, one that could not does not."""
import ast
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlfin
from mlfin.core.provenance import notebook_source
from mlfin.core.code_closure import _BLIND, Library, code_digest, declaration, reach, read_code_facts
from mlfin.core.errors import SettingsError

PACKAGE, ROOT = Path(mlfin.__file__).parent, Path(__file__).parents[2]
FEATURES = {"rsi_14", "macd_12_26_9", "mom_14", "sma_20", "ema_50", "bbands_20_2", "atr_14",
            "historical_vol_21", "returns", "log_returns", "volume_ma_20", "obv"}
ASKED = {"01_ingest": {"source": {"builtin"}}, "02_features": {"features": FEATURES, "label": {"fwd_ret_5"}},
         "03_train": {"features": FEATURES, "label": {"fwd_ret_5"}, "model": {"logistic"}}}


class Edited(Library):
    "The package with some texts replaced, without a file of it."
    def __init__(self, **texts):
        super().__init__(PACKAGE)
        for name, text in texts.items(): self.texts[name] = text.encode()
        self.state = str(hash(tuple(texts.values())))

    def keep(self): raise AssertionError("a trial is not kept")


@cache
def reached(task, model=None):
    return reach(
        [notebook_source(ROOT / "nbs" / "pipeline" / f"{task}.ipynb")],
        Library(PACKAGE),
        asked(task, model),
        stored=True,
    )


def asked(task, model): return ASKED.get(task, {}) | ({"model": {model}} if model else {})


def after(task, module, edit, model=None):
    "What a task reaches after an edit, and whether the edit did anything."
    text = (PACKAGE / f"{module.partition('.')[2].replace('.', '/')}.py").read_text()
    new = edit(text)
    assert new != text, "the edit found nothing to do"
    return reach(
        [notebook_source(ROOT / "nbs" / "pipeline" / f"{task}.ipynb")],
        Edited(**{module: new}),
        asked(task, model),
        stored=True,
    )


def stale(task, module, edit, model=None): return after(task, module, edit, model) != reached(task, model)


def alter(name):
    "Have a definition do something else: a statement more in its body, or another value."
    def edit(text):
        lines, tree = text.splitlines(keepends=True), ast.parse(text)
        node = next(n for n in tree.body if getattr(n, "name", None) == name)
        first = (
            node.body[0] if not isinstance(node.body[0], ast.Expr) or len(node.body) == 1 else node.body[1]
        )
        lines.insert(
            first.lineno - 1, " " * first.col_offset + "altered = 1\n"
        ) if first.lineno > node.lineno else lines.append(f"\n{name}.altered = 1\n")
        return "".join(lines)
    return edit


@pytest.mark.parametrize(
    "task, module, name, is_stale, model",
    [
        ("02_features", "mlfin.features.technical", "historical_vol", True, None),  # asked for
        (
            "02_features",
            "mlfin.features.technical",
            "log_returns",
            True,
            None,
        ),  # asked for, and called by another one
        (
            "02_features",
            "mlfin.features.technical",
            "parkinson",
            False,
            None,
        ),  # of the same module, not asked for
        ("02_features", "mlfin.features.cross_section", "index_beta", False, None),
        ("02_features", "mlfin.features.indicators", "_batch", True, None),  # makes what is asked for
        ("02_features", "mlfin.features.table", "compute_features", True, None),
        ("02_features", "mlfin.datasets.labels", "forward_return", True, None),
        ("02_features", "mlfin.datasets.labels", "triple_barrier", False, None),  # another label
        ("02_features", "mlfin.features.fundamental", "earnings_yield", False, None),
        ("02_features", "mlfin.models.zoo", "_xgboost", False, None),
        ("03_train", "mlfin.models.zoo", "_logistic", True, None),
        ("03_train", "mlfin.models.zoo", "_xgboost", False, None),
        ("03_train", "mlfin.models.zoo", "_xgboost", True, "xgboost"),
        ("03_train", "mlfin.models.sequence", "_train", False, None),
        ("03_train", "mlfin.models.sequence", "save_sequence", True, "lstm"),
        ("03_train", "mlfin.models.composed", "LogisticByRow", True, None),
        ("03_train", "mlfin.models.composed", "MeanEnsemble", False, None),
        ("03_train", "mlfin.models.composed", "MeanEnsemble", True, "ensemble"),
        (
            "03_train",
            "mlfin.models.zoo",
            "_random_forest",
            True,
            "ensemble",
        ),  # one of its members, named by a text
        ("03_train", "mlfin.models.training", "cross_train", True, None),
        ("01_ingest", "mlfin.sources.sources", "_read_builtin", True, None),
        ("01_ingest", "mlfin.warehouse.binary_copy", "copy_in", False, None),
        ("01_ingest", "mlfin.sources.exchanges", "ccxt_parts", False, None),
        ("01_ingest", "mlfin.sources.databases", "sql_parts", False, None),
        ("01_ingest", "mlfin.store.lake", "Lake", True, None),
        ("01_ingest", "mlfin.quality.quality_report", "QualityAccumulator", True, None),
        ("05_backtest", "mlfin.backtest.simulate", "backtest", True, None),
        ("05_backtest", "mlfin.features.technical", "historical_vol", False, None),
    ],
)
def test_a_definition_that_is_altered(task, module, name, is_stale, model):
    assert stale(task, module, alter(name), model) is is_stale


MINE = '''
@feature("mine_range", params=[Param("n", 10, low=2)], inputs=("high", "low", "close"),
         unit="ratio", lookback=lambda n: n - 1)
def _mine(high, low, close, n):
    "Mean range."
    return window_sum((high - low) / close, n) / n
'''


@pytest.mark.parametrize(
    "module, edit, is_stale",
    [
        ("mlfin.features.technical", lambda t: t + MINE, False),  # a feature more
        ("mlfin.features.technical", lambda t: t + "\n# a comment\n", False),
        ("mlfin.features.technical", lambda t: t.replace('"""', '"""Other words. ', 1), False),
        ("mlfin.features.technical", lambda t: t.replace("def log_returns(", "def log_returns( "), False),
        ("mlfin.features.technical", lambda t: t + "\nprint('loaded')\n", True),  # acts when it is imported
        (
            "mlfin.features.technical",
            lambda t: t + "\nlog_returns = ret\n",
            True,
        ),  # another meaning of a name
        (
            "mlfin.features.technical",
            lambda t: t.replace("import numpy as np", "import numpy.ma as np"),
            True,
        ),
        (
            "mlfin.features.indicators",
            lambda t: t.replace(
                "\napo | APO", "\nmine | MOM | c | n=14:1 | | distance | | Mine | mine\napo | APO"
            ),
            False,
        ),
        ("mlfin.features.indicators", lambda t: t.replace("\napo | APO", "\napo | MOM"), False),
        ("mlfin.features.indicators", lambda t: t.replace("\nrsi | RSI", "\nrsi | CMO"), True),
        (
            "mlfin.features.indicators",
            lambda t: t.replace('_DIVIDES = ("RVOL", "VWMA")', '_DIVIDES = ("RVOL",)'),
            True,
        ),  # a constant of what is reached
        (
            "mlfin.datasets.labels",
            lambda t: t.replace('if kind == "log" else', 'if kind in ("log", "ret") else'),
            True,
        ),
    ],
)
def test_an_edit_beside_a_feature(module, edit, is_stale):
    assert stale("02_features", module, edit) is is_stale


def reached_definitions(task):
    "(module, name) of functions that a task reaches, by trying what a task's hash is without them."
    found = []
    for module in (
        "mlfin.features.technical",
        "mlfin.datasets.labels",
        "mlfin.datasets.weights",
        "mlfin.features.table",
        "mlfin.models.zoo",
    ):
        text = (PACKAGE / f"{module.partition('.')[2].replace('.', '/')}.py").read_text()
        found += [(module, n.name) for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)]
    return found


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(reached_definitions("03_train")))
def test_altering_a_definition_changes_exactly_its_module(place):
    module, name = place
    before, now = reached("03_train"), after("03_train", module, alter(name))
    assert {m for m in before.keys() | now.keys() if before.get(m) != now.get(m)} <= {module}


def test_core_names_no_other_room():
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir()} - {"core", "__pycache__"}
    for path in sorted((PACKAGE / "core").glob("*.py")):
        named = {m for m in re.findall(r"\bmlfin\.([a-z_]+)\.", path.read_text())}
        assert not named & rooms, (path.name, named & rooms)


def test_every_declaration_can_be_read_and_says_what_its_module_has():
    library = Library(PACKAGE)
    declared = {m for m, text in library.texts.items() if re.search(rb"(?m)^_CLOSURE\b", text)}
    assert declared == set(library.declarations) and len(declared) > 10
    assert {"mlfin.features.spec", "mlfin.models.zoo", "mlfin.sources.sources"} <= set(
        library.declared("registry")
    )
    for module in declared:
        assert declaration(library.texts[module].decode(), module)


@pytest.mark.parametrize(
    "literal, message",
    [
        ("{'loader': ('f',)}", "did you mean `loaders`"),
        ("{'loaders': ('g',)}", "did you mean `f`|one of"),
        ("{'loaders': 'f'}", "of another type"),
        ("dict(loaders=('f',))", "written out"),
        ("{'registry': {'asked': 'x', 'by': ('h',), 'kept': ()}}", "`_CLOSURE` must be a known name"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(house, literal, message):
    with pytest.raises(SettingsError, match=message):
        house(USES, one=f"\ndef f(): return 1\n_CLOSURE = {literal}\n")


REGISTRY = """
_CLOSURE = {'registry': {'asked': 'thing', 'by': ('register',), 'kept': ('TABLE',), 'quiet': ('register',)}}
def register(name):
    def put(f): TABLE[name] = f; return f
    return put
"""
THINGS = ("\nfrom mlfin.a.one import register\n@register('big')\ndef _big(x): return 1\n@register('small')\n"
          "def _small(x): return 2\n")


@pytest.mark.parametrize(
    "edit, is_stale",
    [
        (("return 1\n@", "return 9\n@"), True),
        (("return 2", "return 9"), False),
        (("_big(x)", "_big(x: int)"), False),
    ],
)
def test_of_a_registry_of_ones_own_what_is_asked_for_counts(house, edit, is_stale):
    asked = {"thing": {"big"}}
    before = house("from mlfin.a.one import TABLE\nTABLE['big']", asked, one=REGISTRY, two=THINGS)
    assert (
        house("from mlfin.a.one import TABLE\nTABLE['big']", asked, one=REGISTRY, two=THINGS.replace(*edit))
        != before
    ) is is_stale


@pytest.mark.parametrize(
    "declared, is_stale",
    [
        ("", True),
        ("\n_CLOSURE = {'loaders': ('used',)}\n", False),
        ("\n_CLOSURE = {'keys': ('helper',)}\n", False),
    ],
)
def test_what_a_module_declares_is_not_followed(house, declared, is_stale):
    text = "from mlfin.a.three import used\nused()"
    three = "\nfrom mlfin.a.two import helper\ndef used(): return __import__(helper(1))\n" + declared.replace(
        "helper", "used"
    )
    assert (house(text, three=three, one=("LIMIT = 3", "LIMIT = 4")) != house(text, three=three)) is is_stale


LEAVES = [
    ("x = 1  # one", "x = 1"),
    ("def f(a: int) -> str:\n    return a", "def f(a):\n    return a"),
    ("def f():\n    'Words.'\n    return 1", "def f():\n    return 1"),
    ("x = (1 +\n     2)", "x = 1 + 2"),
    ("x: int = 3", "x = 3"),
    ("def f():\n    y: int = 2\n    return y", "def f():\n    y = 2\n    return y"),
]
MATTERS = [
    ("x = 1", "x = 1.0"),
    ("x = 1", "x = True"),
    ("def f(a=1): return a", "def f(a=2): return a"),
    ("class A:\n    x: int = 1", "class A:\n    x: float = 1"),
    ("f(*a)", "f(a)"),
    ("{**a}", "{a: a}"),
    ("x = 'a'", "x = b'a'"),
    ("async def f(): pass", "def f(): pass"),
    ("a < b", "a <= b"),
    ("@cache\ndef f(): pass", "def f(): pass"),
    ("@check\ndef f(a: int): pass", "@check\ndef f(a: str): pass"),
    ("x = [None]", "x = []"),
    ("x = ''", "x = None"),
    ("'a'\n'b'", "'a'\nb"),
]


@pytest.mark.parametrize("one, other", LEAVES)
def test_what_does_the_same_has_one_digest(one, other):
    assert code_digest(one) == code_digest(other)


@pytest.mark.parametrize("one, other", MATTERS)
def test_what_does_another_thing_has_another_digest(one, other):
    assert code_digest(one) != code_digest(other)


@pytest.fixture
def house(tmp_path):
    "A package of three modules; `of(text)` is what a text reaches of it after an edit."
    (tmp_path / "mlfin" / "a").mkdir(parents=True)
    texts = {"one": "from mlfin.a.two import helper\nLIMIT = 3\nTABLE = {}\nOTHER = TABLE\n"
                    "def used(x): return helper(x) + LIMIT\ndef unused(): return 1\n",
             "two": "import math as m\nfrom mlfin.a import three\ndef helper(x): return m.sqrt(x)\n"
                    "def other(): return three.deep()\n",
             "three": "def deep(): return 1\ndef deeper(): return 2\n"}

    def of(text, asked=None, **changes):
        for name, old in texts.items():
            edit = changes.get(name)
            content = old if edit is None else old.replace(*edit) if isinstance(edit, tuple) else old + edit
            (tmp_path / "mlfin" / "a" / f"{name}.py").write_text(content)
        return reach([text], Library(tmp_path / "mlfin"), asked or {})
    yield of
    shutil.rmtree(tmp_path / "mlfin")


USES = "from mlfin.a.one import used\nused(1)"


@pytest.mark.parametrize(
    "changes, is_stale",
    [
        ({"one": ("LIMIT = 3", "LIMIT = 4")}, True),
        ({"one": ("return 1", "return 2")}, False),
        ({"two": ("m.sqrt", "m.exp")}, True),
        ({"two": ("math as m", "cmath as m")}, True),
        ({"two": ("three.deep", "three.deeper")}, False),
        ({"three": ("return 1", "return 9")}, False),
        ({"two": "\nhelper = print\n"}, True),
        ({"two": "\ndef more(): pass\n"}, False),
        ({"two": "\nhelper.cache = 1\n"}, True),
        ({"one": "\nfrom mlfin.a import three\nthree.deep = print\n"}, True),  # a patch of another module
        (
            {"one": "\ndef register(f): TABLE[f] = f; return f\n@register\ndef more(): pass\n"},
            True,
        ),  # fills what another reads
        ({"one": "\nfor i in range(3): print(i)\n"}, True),
        ({"three": "\nprint(1)\n"}, True),
    ],
)  # acts when it is imported
def test_names_are_followed(house, changes, is_stale):
    assert (house(USES, **changes) != house(USES)) is is_stale


@pytest.mark.parametrize(
    "text",
    [
        "from mlfin.a.three import *",
        "import mlfin.a.three as t\ngetattr(t, 'deeper')()",
        "from mlfin.a import three\nf(three)",
        "import mlfin.a.three\nmlfin.a.three.deeper()",
        "import_module('mlfin.a.three')",
        "run('from mlfin.a.three import deeper')",
    ],
)
def test_what_cannot_be_followed_counts_as_a_whole(house, text):
    assert house(text, three=("return 2", "return 3")) != house(text)


@pytest.mark.parametrize(
    "edit", ["    return eval(x)", "    return globals()['un' + 'used']()", "    exec(x)"]
)
def test_a_definition_that_looks_names_up_reaches_all_of_its_module(house, edit):
    blind = ("return helper(x) + LIMIT", edit.strip())
    assert _BLIND == {"globals", "exec", "eval"}
    assert (
        house(USES, one=blind)["mlfin.a.one"]
        != house("from mlfin.a.one import LIMIT", one=blind)["mlfin.a.one"]
    )
    assert "mlfin.a.three" not in house(USES, one=blind)  # what its module has, not what others have
    assert read_code_facts(f"def used(x):\n{edit}\ndef unused(): return 1", "mlfin.a.one").units[0].blind


def test_a_computed_import_reaches_everything(house):
    one = ("return helper(x) + LIMIT", "return __import__(x)")
    assert {"mlfin.a.one", "mlfin.a.two", "mlfin.a.three"} == set(house(USES, one=one))


def test_what_was_understood_is_kept_and_a_damaged_note_is_made_anew(house, tmp_path):
    found = house(USES)
    library = Library(tmp_path / "mlfin")
    reach([USES], library, {})
    library.keep()
    for content in ("{", "[]", "{}"):
        for name in ("reach", "facts"):
            assert (tmp_path / "mlfin" / "__pycache__" / f"{name}.json").is_file()
            (tmp_path / "mlfin" / "__pycache__" / f"{name}.json").write_text(content)
        assert reach([USES], Library(tmp_path / "mlfin"), {}) == found
