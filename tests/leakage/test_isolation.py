"""What features read beside their bars is seen: files, also those that native code opens, networks,
processes, clocks, chance."""

import datetime
import functools
import pickle
import random
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import SpecError
from mlfin.leakage.audit import audit_features
from mlfin.leakage.isolation import SandboxedFeatures, declared_reads
from mlfin.features.spec import definitions, families, feature, parse_set
from mlfin.features.table import compute_features

ROOT = Path(__file__).resolve().parents[2]


def reads_text(close):
    with open("/proc/loadavg") as file:
        return close * len(file.read(1))


def lists_a_folder(close):
    import os
    return close * (len(os.listdir("/usr")) > 0)


def reads_parquet(close):
    import pyarrow.parquet as pq
    return close * (pq.read_table(reads_parquet.path).num_rows > 0)


def hides_the_error(close):
    try:
        return close * 1.0 if socket.create_connection(("127.0.0.1", 9), 0.1) else close
    except OSError:
        return close * 2.0


def starts_a_process(close):
    return close * (subprocess.run(["true"], check=False).returncode + 1)


def of_the_hour(close):
    return close + datetime.datetime.now().hour * 60 + datetime.datetime.now().minute


def of_today(close):
    return close * datetime.date.today().toordinal()


def of_pandas_now(close):
    return close * pd.Timestamp.now("UTC").year


def of_the_zone(close):
    return close + time.localtime(0).tm_hour


def of_seconds(close):
    return close + time.time() // 86_400


def of_the_systems_clock(close):
    return close + time.clock_gettime(time.CLOCK_REALTIME) // 86_400


def of_shared_numbers(close):
    return close + np.random.normal()


def of_pythons_numbers(close):
    return close + random.random()


def of_entropy(close):
    return close + np.random.default_rng().normal() + secrets.randbelow(10)


def of_texts(close):
    return close + hash("AAPL") % 1009


FOUND = {
    reads_text: "file",
    lists_a_folder: "file",
    reads_parquet: "file",
    hides_the_error: "network",
    starts_a_process: "process",
    of_the_hour: "asks for the time",
    of_today: "asks for the time",
    of_pandas_now: "asks for the time",
    of_the_zone: "other values in another process",
    of_seconds: "asks for the time",
    of_the_systems_clock: "asks for the time",
    of_shared_numbers: "depends on chance",
    of_pythons_numbers: "depends on chance",
    of_entropy: "depends on chance",
    of_texts: "order of a set",
}


def lazily_imports(close):
    import colorsys
    import wave
    return close * (colorsys.rgb_to_hsv(0, 0, 1)[2] + (wave.WAVE_FORMAT_PCM - 1))


def seeded(close):
    return close + np.random.default_rng(7).normal()


def times_itself(close):
    begun = time.time()
    return close * (1.0 if time.time() >= begun - 1 else 2.0)


@pytest.fixture
def few(make_bars):
    return pd.concat([make_bars("AAA", 60, 1), make_bars("BBB", 50, 2)], ignore_index=True)


def test_everything_that_is_read_is_seen_and_nothing_else(registry, few, tmp_path):
    """One process for all of them; what is declared, what is seeded and what only imports passes."""
    few.to_parquet(tmp_path / "other.parquet")
    reads_parquet.path = str(tmp_path / "other.parquet")
    for function in (*FOUND, lazily_imports, seeded, times_itself):
        feature(function.__name__, unit="price", lookback=0)(function)
    feature("declares_file", unit="price", lookback=0, reads=("file",))(lambda close: reads_text(close))
    feature("declares_clock", unit="price", lookback=0, reads="clock")(lambda close: of_today(close))
    feature("declares_other", unit="price", lookback=0, reads="network")(lambda close: reads_text(close))
    fine = [
        "lazily_imports",
        "seeded",
        "times_itself",
        "declares_file",
        "declares_clock",
        "rsi_14",
        "xs_rank_ret_5",
    ]
    specs = [*(f.__name__ for f in FOUND), *fine, "xs_rank_reads_text", "declares_other"]
    table = compute_features(few, specs)
    says = {f.feature: f.says for f in SandboxedFeatures(specs, few).findings(table)}
    assert set(says) == set(specs) - set(fine), says
    for function, word in FOUND.items():
        assert word in says[function.__name__], says[function.__name__]
    assert "/proc/loadavg" in says["reads_text"] and "(file)" in says["xs_rank_reads_text"]


def test_no_registered_feature_reads_anything(real):
    bars, context = real(40)
    specs = [d.example for d in definitions().values()] + [e for e, _ in families().values()]
    table = compute_features(bars, specs, short="nan", **context)
    assert [f.says for f in SandboxedFeatures(specs, bars, **context).findings(table)] == []
    assert not any(declared_reads(f) for f in parse_set(specs))


def test_an_audit_stops_it_and_says_what_to_do(registry, few):
    feature("reads_text", unit="price", lookback=0)(reads_text)
    audit = audit_features(["ret_5", "reads_text"], few, compute_features(few, ["ret_5", "reads_text"]))
    assert audit.report.verdict.tolist() == ["passes", "undeclared"]
    with pytest.raises(
        SpecError, match=r'reads more than its bars \(file\): open /proc/loadavg(.|\n)*reads=\("file",\)'
    ):
        audit.check()


def test_what_cannot_be_sent_is_said(registry, few):
    lock = __import__("threading").Lock()

    def locked(close):
        with lock:
            return close * 1.0
    feature("locked", unit="price", lookback=0)(locked)
    found = SandboxedFeatures(["locked", "ret_5"], few).findings(compute_features(few, ["locked", "ret_5"]))
    assert [f.feature for f in found] == ["locked"]
    assert "cannot be computed in another process" in found[0].says


ONCE = """
from mlfin.features.spec import feature
kept = {}

@feature("reads_once", unit="price", lookback=0)
def reads_once(close):
    "Reads a file when it is first called, and never again."
    if not kept:
        with open("/proc/loadavg") as file: kept["factor"] = len(file.read(1))
    return close * kept["factor"]
"""


def test_a_plugin_that_keeps_what_it_read(registry, few, tmp_path, monkeypatch):
    """The process is a fresh one: what an earlier computation left in memory is not there."""
    (tmp_path / "plugin_that_keeps.py").write_text(ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFIN_PLUGINS", "plugin_that_keeps")
    __import__("plugin_that_keeps")
    table = compute_features(few, ["reads_once"])
    assert [f.says for f in SandboxedFeatures(["reads_once"], few).findings(table)] == [
        "`reads_once` reads more than its bars (file): open /proc/loadavg."
    ]


AT_IMPORT = """
import pandas as pd
{how}
from mlfin.features.spec import feature

@feature("looked_up", unit="price", lookback=0)
def looked_up(close):
    "Looks up what its module read when it was imported."
    {first}
    return close * len(FUTURE)
"""


@pytest.mark.parametrize(
    "how, first",
    [
        ("FUTURE = pd.read_csv({path!r})", ""),
        ("from beside import FUTURE", ""),
        ("", "from beside import FUTURE"),
    ],
    ids=["at import", "by another module", "when it is called"],
)
def test_what_is_read_while_a_module_is_imported_is_seen(registry, few, tmp_path, monkeypatch, how, first):
    few.to_csv(path := str(tmp_path / "future.csv"))
    (tmp_path / "plugin_that_reads.py").write_text(AT_IMPORT.format(how=how.format(path=path), first=first))
    (tmp_path / "beside.py").write_text(f"import pandas as pd\nFUTURE = pd.read_csv({path!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFIN_PLUGINS", "plugin_that_reads")
    for name in ("plugin_that_reads", "beside"): monkeypatch.delitem(sys.modules, name, raising=False)
    __import__("plugin_that_reads")
    table = compute_features(few, ["looked_up", "rsi_14"])
    says = [f.says for f in SandboxedFeatures(["looked_up", "rsi_14"], few).findings(table)]
    assert len(says) == 1 and says[0].startswith(
        f"`looked_up` reads more than its bars (file): open {path}"
    ), says


NATIVE = "import pyarrow.parquet\nFUTURE = pyarrow.parquet.read_table({path!r})"
DRAWN = "import os\nFUTURE = bytes(int.from_bytes(os.urandom(4), 'big') % 1_000_003)"


@pytest.mark.parametrize(
    "how, beside, word",
    [
        (NATIVE, "", "(file): opened by native code"),
        ("from beside import FUTURE", NATIVE, "(file): opened by native code"),
        (DRAWN, "", "depends on chance"),
        ("import json, colorsys\nFUTURE = json.dumps([1])", "", ""),
    ],
    ids=["native", "by another", "chance", "nothing"],
)
def test_what_native_code_reads_and_what_is_drawn_while_a_module_is_imported_is_seen(
    registry, few, tmp_path, monkeypatch, how, beside, word
):
    few.to_parquet(path := str(tmp_path / "future.parquet"))
    (tmp_path / "plugin_of_its_own.py").write_text(AT_IMPORT.format(how=how.format(path=path), first=""))
    (tmp_path / "beside.py").write_text(beside.format(path=path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFIN_PLUGINS", "plugin_of_its_own")
    for name in ("plugin_of_its_own", "beside"): monkeypatch.delitem(sys.modules, name, raising=False)
    __import__("plugin_of_its_own")
    table = compute_features(few, ["looked_up", "rsi_14"])
    says = [f.says for f in SandboxedFeatures(["looked_up", "rsi_14"], few).findings(table)]
    assert len(says) == bool(word) and all(word in s and "`looked_up`" in s for s in says), says


TABLE = pd.DataFrame({"move": np.arange(100.0)})


def test_a_table_that_a_feature_brings_along_is_seen(registry, few):
    kept, few_numbers = dict(zip(range(100), range(100), strict=True)), [0.1, 0.2]

    def of_a_global(close): return close * TABLE.move.iloc[:1].sum()
    def of_a_closure(close): return close * kept[1]
    def by_another(close): return of_a_global(close)
    def of_a_default(close, table=tuple(range(1000))): return close * table[1]
    def of_few_numbers(close): return close * few_numbers[0]
    bad = (of_a_global, of_a_closure, by_another, of_a_default)
    for function in (*bad, of_few_numbers): feature(function.__name__, unit="price", lookback=0)(function)
    feature("declared", unit="price", lookback=0, reads=("file",))(lambda close: of_a_global(close))
    specs = [*(f.__name__ for f in bad), "of_few_numbers", "declared"]
    says = {f.feature: f.says for f in SandboxedFeatures(specs, few).findings(compute_features(few, specs))}
    assert set(says) == {f.__name__ for f in bad}, says
    assert "`TABLE`, a DataFrame of 100 values" in says["by_another"]
    assert "`kept`, a dict of 100 values" in says["of_a_closure"]


def test_a_feature_of_a_notebook_may_hold_a_compiled_function_that_a_library_wrapped():
    import talib
    from mlfin.leakage.transport import dump_feature

    assert pickle.loads(dump_feature({"rsi": talib.RSI.__wrapped__}))["rsi"] is talib.RSI.__wrapped__


def test_a_feature_of_a_notebook_may_hold_a_function_that_remembers():
    from mlfin.leakage.transport import dump_feature

    double = functools.lru_cache(maxsize=8)(lambda x: 2 * x)
    again = pickle.loads(dump_feature({"double": double}))["double"]
    assert again(3) == 6 and again.cache_info().maxsize == 8 and again is not double


def test_a_feature_of_the_program_itself_is_not_blamed_for_settings(tmp_path):
    """In a notebook features belong to `__main__`, as what reads the settings does."""
    script = tmp_path / "script.py"
    script.write_text("""
import pandas as pd
from mlfin.leakage.audit import audit_features
from mlfin.features.spec import feature
from mlfin.features.table import compute_features
from mlfin.sources.sources import read_bars

@feature("mine", unit="price", lookback=0)
def mine(close): return close * 1.5

bars = read_bars("builtin", symbols=["FB"]).bars
print(audit_features(["mine", "rsi_14"], bars,
                     compute_features(bars, ["mine", "rsi_14"])).report.says.tolist())
""")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "['', '']", done.stdout + done.stderr[-2000:]


def test_settings_that_the_registry_reads_are_no_features_reading(registry, few, tmp_path, monkeypatch):
    """Sent whole, a feature leaves the registry to be loaded in the process, with the project's settings."""
    for name in ("settings.ini", "env.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setenv("MLFIN_ROOT", str(tmp_path))
    feature("mine_alone", unit="price", lookback=0)(lambda close: close * 1.5)
    answer = SandboxedFeatures(["mine_alone"], few).answer(120)
    assert answer["seen"] == {} and isinstance(answer["made"]["mine_alone"], dict), answer
