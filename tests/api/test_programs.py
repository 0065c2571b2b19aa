"""Programs of others: they insert minute bars into PostgreSQL while a real service runs, dies, and is there
twice, and they load the champion from a file."""
import hashlib
import json
import os
import pickle
import socket
import time
from configparser import ConfigParser

import joblib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

psycopg = pytest.importorskip("psycopg")

from mlfin.core.errors import DataError, ModelError  # noqa: E402
from mlfin.core.seals import seal_keys  # noqa: E402
from mlfin.market.bars import as_bars  # noqa: E402
from mlfin.warehouse.warehouse import Warehouse  # noqa: E402
from mlfin.features.table import compute_features  # noqa: E402
from mlfin.registry.registry import set_champion, load_version, register, write_verdict  # noqa: E402
from mlfin.cli.app import app  # noqa: E402
from mlfin.predict.export import export_model, load_exported, verify_export  # noqa: E402
from mlfin.predict.flat_features import FLAT, FlatFeatures  # noqa: E402

from ..fixtures import left_run  # noqa: E402
from ..fixtures.served import SPECS, Served, key_of, postgresql, project  # noqa: E402

INSERT = ("INSERT INTO market_data (ts, symbol, timeframe, open, high, low, close, volume, spread) VALUES "
          "(%s, %s, 'M1', %s, %s, %s, %s, %s, %s)")
SERIES = """INSERT INTO market_data SELECT %s::timestamptz + n * interval '1 min', \
'A', 'M1', 1, 2, 1, 1.5, n, 0
    FROM generate_series(%s::int, %s::int) n"""
FIRST = pd.Timestamp("2024-05-01", tz="UTC")


@pytest.fixture(scope="module")
def postgres():
    with postgresql() as running:
        yield running


def on_8001(server: Served) -> bool:
    """Let a service listen where `serve_port = 8001` says, if nothing else does."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try: s.bind(("127.0.0.1", 8001))
        except OSError: return False
    ini = ConfigParser(interpolation=None)
    ini.read(server.folder / "settings.ini", encoding="utf-8")
    assert ini["DEFAULT"]["serve_port"] == "8000"
    ini["test"]["serve_port"] = "8001"
    with open(server.folder / "settings.ini", "w", encoding="utf-8") as file: ini.write(file)
    server.port, server.words = 8001, []
    return True


@pytest.fixture
def place(postgres, request):
    """A new warehouse with a user `feeder` of another program; its address, and that user's."""
    name = f"p{abs(hash(request.node.nodeid)) % 10**9}"
    postgres.sql(f"CREATE DATABASE {name}")
    Warehouse(postgres.url(name)).grant(feeder="feeder")
    return postgres.url(name), postgres.url(name, "feeder")


def minutes(bars: pd.DataFrame, last: pd.Timestamp) -> pd.DataFrame:
    """Daily bars as minutes, the last of which opens at a moment."""
    ts = (last - (bars.ts.max() - bars.ts) / 1440).astype("datetime64[us, UTC]")
    return as_bars(bars.assign(timeframe="1m", ts=ts, known_at=ts + pd.Timedelta("1min")))


def row(bar) -> tuple:
    return bar.ts, bar.symbol, bar.open, bar.high, bar.low, bar.close, bar.volume, 0.01


def until(wanted, seconds: float = 60.0) -> float:
    """Seconds until something holds."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < seconds, "it never came"
        time.sleep(0.01)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """(settings, environment, bars): experiment `main` has a champion of minute bars; the last five minutes
    it has not seen."""
    settings, given = project(tmp_path_factory.mktemp("programs"))
    last = pd.Timestamp.now("UTC").floor("min") - pd.Timedelta("1min")
    bars = minutes(left_run.bars_that_remember(days=305, symbols=("AAA", "BBB")), last)
    seen = bars[bars.ts <= bars.ts.max() - pd.Timedelta("5min")].reset_index(drop=True)
    left_run.leave(settings, "main", specs=SPECS, bars=seen)
    write_verdict(settings, made := register(settings, "main"), "passed", "all is well", {"checks": []})
    set_champion(settings, "main", made.number, None)
    return settings, given, bars


@pytest.mark.slow
def test_a_minute_that_is_inserted_is_stored_foretold_from_and_survives_the_service(champion, place):
    (url, feeder), (settings, given, whole) = place, champion
    store, last = Warehouse(url), whole.ts.max() - pd.Timedelta("5min")
    more = whole[(whole.ts > last) & (whole.symbol == "AAA")].reset_index(drop=True)
    store.write(whole[whole.ts <= last].reset_index(drop=True))
    key = key_of(settings)
    server = Served(settings.root, given | {"MLFIN_STORE": url})
    on_8001(server)
    with server, psycopg.connect(feeder, autocommit=True) as con:
        assert server.ask("GET", "/health")[::2] == (200, {"status": "ok"})
        assert server.ask("GET", "/v1/health")[0] in (401, 404)

        def ask(text, *given): return con.execute(text, given).fetchall()
        times = []
        for bar in more[:3].itertuples():
            con.execute(INSERT, row(bar))
            times.append(until(lambda bar=bar: ask("SELECT FROM market_data WHERE ts = %s AND symbol = 'AAA' "
                                                   "AND close = %s", bar.ts, bar.close)))
        assert min(times) < 1, times
        said = server.ask("GET", "/v1/signals?timeframe=1m&symbol=AAA", key=key)[2]["signals"][0]
        until(lambda: ask("SELECT FROM model_signals WHERE symbol = 'AAA' AND timeframe = 'M1' AND ts = %s "
                          "AND prob_up = %s", more.ts[2], said["probability"]))
        until(lambda: ask("SELECT FROM features_m1 WHERE symbol = 'AAA' AND ts = %s", more.ts[2]))
        server.kill()
        con.execute(INSERT, row(more.iloc[3]))
        # it waits for the service
        assert ask("SELECT count(*) FROM market_data WHERE ts = %s", more.ts[3]) == [(0,)]
        server.start()
        con.cursor().executemany(INSERT, [row(more.iloc[n]) for n in (2, 3, 4, 4)])
        until(lambda: ask("SELECT FROM features_m1 WHERE symbol = 'AAA' AND ts = %s", more.ts[4]))
        assert (ask("SELECT close FROM market_data WHERE symbol = 'AAA' AND ts > %s ORDER BY ts", last)
                == [(c,) for c in more.close])
        found = ask("SELECT ts, rsi, macd, macd_signal, macd_hist, atr, ma60, ret_1 FROM features_m1 WHERE "
                    "symbol = 'AAA' ORDER BY ts")
    known = compute_features(whole[whole.symbol == "AAA"].reset_index(drop=True), FLAT, short="nan")
    columns = ["rsi_14", "macd_12_26_9", "macd_signal_12_26_9", "macd_hist_12_26_9",
               "atr_14", "ma60", "ret_1"]
    # as over the whole history, to the last bit
    np.testing.assert_array_equal(np.array([r[1:] for r in found], dtype=float), known[columns].to_numpy())
    assert [r[0] for r in found] == list(known.ts)


def test_the_metrics_of_a_registered_version_are_a_row_of_the_warehouse(champion, place):
    (url, feeder), (settings, _, _) = place, champion
    made = register(settings.model_copy(update={"store": url}), "main")
    with psycopg.connect(feeder, autocommit=True) as con:
        def rows():
            return con.execute("SELECT id, created_at, model_name, metrics FROM model_metrics").fetchall()
        told = rows()
        assert [(r[1], r[2]) for r in told] == [(made.made, made.name)]
        assert told[0][3] == {**json.loads(made.tags["mlfin.scores"]), "version": made.number}
        assert "log_loss" in told[0][3]
        register(settings.model_copy(update={"store": url}), "main")
        assert rows() == told


def test_flat_features_follow_what_is_inserted_and_nothing_else(place, caplog):
    url, feeder = place
    store = Warehouse(url)
    flat = FlatFeatures(store)
    assert flat.follow() == 0
    whole = minutes(left_run.bars_that_remember(days=100, symbols=("AAA", "BBB")), FIRST)
    store.write(whole)
    assert flat.follow() == 0                                            # nobody inserted these
    with psycopg.connect(url) as con:
        con.execute("INSERT INTO mlfin.spellings SELECT id, 'M1' FROM mlfin.series WHERE symbol = 'AAA'")
    store.write(minutes(left_run.bars_that_remember(days=101, symbols=("CCC",)), FIRST))
    assert flat.follow() == 100 and flat.follow() == 0
    assert set(store.read_features(timeframe="1m").symbol) == {"AAA"}
    one = whole[(whole.symbol == "AAA") & (whole.ts == whole.ts.max())].reset_index(drop=True)
    store.push(one.assign(ts=one.ts + pd.Timedelta("1min"), known_at=one.known_at + pd.Timedelta("1min")))
    assert flat.follow() == 1
    few = FlatFeatures(store, most=50)
    assert few.follow() == 0 and "not kept up" in caplog.text


@pytest.mark.slow
def test_two_services_that_are_killed_again_and_again_take_every_row_once(place, tmp_path):
    url, feeder = place
    servers = [Served(tmp_path / name, project(tmp_path / name, store=url)[1]) for name in ("one", "two")]
    rng, sent = np.random.default_rng(0), 0
    with servers[0], servers[1], psycopg.connect(feeder, autocommit=True) as con:
        for turn in range(24):
            con.execute(SERIES, (FIRST, sent, sent + 1999))
            sent += 2000
            time.sleep(rng.uniform(0, 0.6))
            one = servers[turn % 2]
            one.kill()
            one.start()
        store = Warehouse(url)
        until(lambda: store.server.ask(
            lambda c: c.execute("SELECT NOT EXISTS (SELECT FROM mlfin.inbox)").fetchone()[0]), 120)
    store.flush()
    history = store.history("bars", ["A"], "1m")
    assert len(store.read_quarantine()) == 0 and len(store.read("A", "1m")) == sent == len(history)


@pytest.mark.slow
def test_a_hundred_thousand_rows_in_one_transaction(place, tmp_path):
    url, feeder = place
    with (Served(tmp_path, project(tmp_path, store=url)[1]) as server,
          psycopg.connect(feeder, autocommit=True) as con):
        con.execute(SERIES, (FIRST, 1, 100_000))
        took = until(lambda: con.execute("SELECT count(*) FROM market_data").fetchone() == (100_000,), 120)
        print(f"100,000 rows of one transaction were taken in {took:.1f} s")
        until(lambda: con.execute("SELECT count(*) FROM features_m1").fetchone() == (100_000,), 120)
        assert server.ask("GET", "/health")[0] == 200


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path): self.path = str(path)

    def __reduce__(self): return os.mkdir, (self.path,)


def test_a_pickle_answers_as_the_champion_and_says_what_it_is(champion, tmp_path):
    settings, *_ = champion
    done = export_model(settings, "main", "champion", tmp_path / "rf_m1.pkl")
    told, loaded = (json.loads((tmp_path / "manifest.json").read_text()),
                    load_version(settings, "main", "champion"))
    assert told == done.manifest and told["features"] == loaded.manifest["features"]
    assert told["inputs"] == loaded.manifest["inputs"]
    assert told["label"] == {"spec": "fwd_ret_1", "horizon": 1} and told["threshold"] == 0.5
    assert "runs the code" in told["warning"] and told["version"] == 1
    rows = loaded.example[told["inputs"]]
    for model in (joblib.load(tmp_path / "rf_m1.pkl"), pickle.loads((tmp_path / "rf_m1.pkl").read_bytes()),
                  load_exported(settings, tmp_path / "rf_m1.pkl")):
        np.testing.assert_array_equal(model.predict_proba(rows)[:, 1], loaded.predict(loaded.example))
    assert ({p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
            == {"rf_m1.pkl": 0o600, "manifest.json": 0o600})
    assert verify_export(settings, tmp_path / "rf_m1.pkl") == told


def test_without_a_pickle_the_files_run_nothing(champion, tmp_path):
    settings, *_ = champion
    done, loaded = export_model(settings, "main", 1, tmp_path / "model"), load_version(settings, "main", 1)
    assert done.manifest["kind"] == "native" and "warning" not in done.manifest
    assert (tmp_path / "model" / "estimator.skops").is_file()
    again = load_exported(settings, tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(loaded.example[loaded.manifest["inputs"]])[:, 1],
                                  loaded.predict(loaded.example))
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o700
    assert verify_export(settings, tmp_path / "model") == done.manifest
    (tmp_path / "model" / "estimator.skops").write_bytes(b"")
    with pytest.raises(ModelError, match="not what was exported"): load_exported(settings, tmp_path / "model")


def test_what_stands_there_stays_unless_it_is_forced(champion, tmp_path):
    settings, *_ = champion
    own, link = tmp_path / "own.txt", tmp_path / "model.pkl"
    own.write_text("mine")
    link.symlink_to(own)
    with pytest.raises(DataError, match="there already"): export_model(settings, "main", 1, link)
    export_model(settings, "main", 1, link, force=True)
    assert own.read_text() == "mine" and not link.is_symlink()
    with pytest.raises(DataError, match=r"(?s)manifest.json is there already.*--force"):
        export_model(settings, "main", 1, tmp_path / "other.pkl")
    assert not (tmp_path / "other.pkl").exists()
    with pytest.raises(DataError, match="a folder for native files"):
        export_model(settings, "main", 1, own, force=True)
    with pytest.raises(ModelError): export_model(settings, "main", 99, tmp_path / "deep" / "x.pkl")
    assert not (tmp_path / "deep").exists()


def test_nothing_that_was_changed_is_believed_or_loaded(champion, tmp_path, monkeypatch):
    settings, *_ = champion
    path, beside, canary = tmp_path / "rf_m1.pkl", tmp_path / "manifest.json", tmp_path / "canary"
    export_model(settings, "main", 1, path)
    good, told = path.read_bytes(), json.loads(beside.read_text())
    planted = pickle.dumps(Canary(canary))
    forged = told | {"files": {"rf_m1.pkl": hashlib.sha256(planted).hexdigest()}}
    changes = [(planted, told), (planted, forged), (good, told | {"threshold": 0.9}),
               (good, told | {"seal": ""}), (good, told | {"seal": None}), (good, []),
               (good, told | {"files": []}), (good, {k: v for k, v in told.items() if k != "kind"}),
               (good[:-1], told)]
    for content, manifest in changes:
        path.write_bytes(content)
        beside.write_text(json.dumps(manifest))
        for use in (verify_export, load_exported):
            with pytest.raises(ModelError): use(settings, path)
    path.write_bytes(good)
    beside.write_text(json.dumps(told))
    verify_export(settings, path)
    (tmp_path / "renamed.pkl").write_bytes(good)
    with pytest.raises(ModelError, match="not what was exported"):
        verify_export(settings, tmp_path / "renamed.pkl")
    monkeypatch.setenv("MLFIN_SEAL_KEY", "k" * 40)
    with pytest.raises(ModelError, match="no seal that fits"): load_exported(settings, path)
    assert not canary.exists() and seal_keys(settings).names()


def test_the_commands_warn_of_the_pickle_and_tell_by_their_exit_code(
        champion, tmp_path, monkeypatch, plain_terminal):
    settings, *_ = champion
    monkeypatch.setenv("MLFIN_ROOT", str(settings.root))
    for name in ("mlflow", "artifacts", "store", "ledger"):
        monkeypatch.setenv(f"MLFIN_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("COLUMNS", "300")
    ask = lambda *words: CliRunner().invoke(app, ["models", *words])  # noqa: E731
    path = tmp_path / "model.pkl"
    done = ask("export", "champion", str(path), "--experiment", "main")
    assert done.exit_code == 0 and "WARNING" in done.output and "runs the code" in done.output, done.output
    assert ask("export", "champion", str(path), "--experiment", "main").exit_code != 0
    assert ask("export", "champion", str(path), "--experiment", "main", "--force", "--json").exit_code == 0
    assert ask("verify", str(path)).exit_code == 0
    path.write_bytes(b"x")
    done = ask("verify", str(path), "--json")
    assert done.exit_code == 1 and json.loads(done.output)["verified"] is False
