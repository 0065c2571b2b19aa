"""The feature store gives what the table gives, at any moment and version, however the bars came."""

import threading

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.actions import as_actions, derive_actions
from mlfin.market.bars import as_bars
from mlfin.facts.facts import as_facts
from mlfin.store.lake import Lake
from mlfin.feature_store import feature_store as module
from mlfin.features.spec import feature
from mlfin.feature_store.feature_code import feature_code
from mlfin.feature_store.feature_store import FeatureStore
from mlfin.features.table import compute_features

SPECS = "rsi_14 macd_12_26_9 ret_5 obv sma_20".split()
DAY = pd.Timedelta("1D")


def equal(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), check_exact=True)


@pytest.fixture
def panel(make_bars):
    """Three symbols on the same days; the last is young."""
    return as_bars(
        pd.concat(
            [make_bars("AAA", 120, 1), make_bars("BBB", 120, 2), make_bars("CCC", 50, 3)], ignore_index=True
        )
    )


@pytest.fixture
def lake(tmp_path, panel):
    """All but the last twenty days."""
    lake = Lake(tmp_path / "lake")
    lake.write(until(panel, -20))
    return lake


def times(bars):
    return bars.ts.drop_duplicates().sort_values(ignore_index=True)


def until(bars, k):
    return bars[bars.ts < times(bars).iloc[k]].reset_index(drop=True)


def on(bars, k):
    return bars[bars.ts == times(bars).iloc[k]].reset_index(drop=True)


def fresh_build(lake, tmp_path, specs=SPECS, **options):
    """What a store that is made today from the same lake has."""
    other = FeatureStore(lake, tmp_path / f"other{len(list(tmp_path.iterdir()))}", **options)
    other.update(specs)
    return other


def agree(store, lake, tmp_path, specs=SPECS, context=None, **options):
    """Equal to the table of today's bars, and at any moment to the table of the bars known then; equal to a
    new store."""
    bars = lake.read(adjust=store.adjust)
    context = context or {}
    equal(store.read(specs), compute_features(bars, specs, short="nan", **context))
    made = fresh_build(lake, tmp_path, specs, **options)
    columns = ["known_at", "input", *(c for c in store.read(specs) if c not in module.KEYS)]
    one, two = (module._find(s, specs).load(columns).drop(columns="generation") for s in (store, made))
    equal(one, two)
    for moment in pd.date_range(bars.ts.min() + DAY, bars.known_at.max() + DAY, 3):
        then = lake.read(as_of=moment, adjust=store.adjust)
        equal(store.read(specs, as_of=moment), compute_features(then, specs, short="nan", **context))


def test_the_history_is_the_table(lake, tmp_path):
    store = FeatureStore(lake)
    done = store.update(SPECS)
    assert (done.added, done.rebuilt, done.how, done.bars_version) == (230, (), "computed", lake.version())
    agree(store, lake, tmp_path)
    table = compute_features(lake.read(adjust="total"), ["ret_5"])
    part = (table.symbol == "AAA") & table.ts.between(
        pd.Timestamp("2021-11-01", tz="UTC"), pd.Timestamp("2021-11-05", tz="UTC")
    )
    assert part.sum() == 5
    equal(store.read(["ret_5"], ["AAA"], start="2021-11-01", end="2021-11-05"), table[part])
    assert store.update(SPECS).how == "nothing" and len(store.versions(SPECS)) == 1


def test_new_bars_go_through_the_states(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    for k in range(-20, -16):
        (lake.push if k % 2 else lake.write)(on(panel, k))
        done = store.update(SPECS)
        assert (done.how, done.added, done.rebuilt) == ("appended", 3, ())
    agree(store, lake, tmp_path)
    assert list(store.versions(SPECS).added) == [230] + [3] * 4


def test_symbols_come_one_by_one(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    for symbol in ("BBB", "AAA", "CCC"):
        lake.push(on(panel, -20).query(f"symbol == '{symbol}'").reset_index(drop=True))
        assert store.update(SPECS).how == "appended"
    agree(store, lake, tmp_path)


def test_after_a_restart(lake, panel, tmp_path):
    FeatureStore(lake).update(SPECS)
    lake.write(on(panel, -20))
    store = FeatureStore(lake)
    assert (done := store.update(SPECS)).how == "computed" and done.added == 3 and done.rebuilt == ()
    lake.write(on(panel, -19))
    assert store.update(SPECS).how == "appended"
    agree(store, lake, tmp_path)


def test_real_bars_with_splits_and_dividends(tmp_path):
    from mlfin.sources.sources import read_bars

    reading = read_bars("builtin", symbols=["AAPL", "IBM"], start="2004-12-01", end="2005-08-31")
    order = reading.bars.sort_values(["symbol", "ts"], kind="stable").index
    bars, adjusted = as_bars(reading.bars), reading.adjusted_close[order].reset_index(drop=True)
    actions = derive_actions(bars, adjusted)
    assert len(actions) > 3 and (actions.kind == "split").any()
    lake, store, made = Lake(tmp_path / "lake"), None, []
    borders = [0, 60, bars.ts.nunique() - 10, bars.ts.nunique()]
    for a, b in zip(borders[:-1], borders[1:], strict=True):
        part = bars[bars.ts.isin(times(bars)[a:b])].reset_index(drop=True)
        lake.write_actions(actions[actions.known_at <= part.known_at.max()].reset_index(drop=True))
        lake.write(part)
        store = store or FeatureStore(lake)
        made.append(store.update(SPECS))
        assert made[-1].rebuilt == ()
    assert {m.how for m in made} == {"computed", "appended"}
    agree(store, lake, tmp_path)


def test_a_revised_bar(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    before = store.read(SPECS)
    old = lake.read("BBB").iloc[[40]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    done = store.update(SPECS)
    assert done.rebuilt == ("BBB",) and done.how == "computed"
    agree(store, lake, tmp_path)
    after = store.read(SPECS)
    changed = before.symbol.eq("BBB") & before.ts.ge(old.ts[0])
    equal(after[~changed].drop(columns="known_at"), before[~changed].drop(columns="known_at"))
    assert (after[changed].rsi_14 != before[changed].rsi_14).any()
    equal(store.read(SPECS, version=0), before)
    equal(store.read(SPECS, as_of="2021-12-31"), before)


@pytest.mark.slow
def test_revised_twice_and_in_between(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    for k, factor in ((30, 1.01), (60, 0.99), (30, 1.02), (-1, 1.001)):
        old = lake.read("AAA").iloc[[k]].reset_index(drop=True)
        lake.write(old.assign(close=old.close * factor, high=old.high * 1.05))
        assert store.update(SPECS).rebuilt == ("AAA",)
    agree(store, lake, tmp_path)
    lake.write(on(panel, -20))  # of last year, as the bars that were revised today did not know them
    assert (done := store.update(SPECS)).how == "computed" and set(done.rebuilt) <= {"AAA"}
    agree(store, lake, tmp_path)


def test_a_revision_costs_what_it_changes(lake, panel):
    """Rows from the revised bar on are added once more; nothing else is written again."""
    store = FeatureStore(lake)
    store.update(SPECS)
    old = lake.read("BBB").iloc[[90]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    assert (done := store.update(SPECS)).rebuilt == ("BBB",) and done.added == 10
    lake.write(old.assign(close=old.close * 1.02, high=old.high * 1.03))
    assert FeatureStore(lake).update(SPECS).added == 10 and store_rows(store) == 250


def test_a_dividend_that_is_known_late(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    ex, known = times(panel)[30], times(panel)[60] + pd.Timedelta("7h")
    lake.write_actions(as_actions([("AAA", ex, "dividend", 3.0, known, "made")]))
    assert store.update(SPECS).rebuilt == ("AAA",)
    agree(store, lake, tmp_path)
    early, late = (
        store.read(["sma_20"], "AAA", as_of=m).set_index("ts").sma_20[times(panel)[55]]
        for m in (known - DAY, known)
    )
    assert early < late


def test_a_split_between_new_bars(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    part = on(panel, -20)
    half = part.symbol == "BBB"
    prices = ["open", "high", "low", "close"]
    part.loc[half, prices] = part.loc[half, prices] / 2
    lake.write_actions(as_actions([("BBB", part.ts[0], "split", 2.0, part.known_at[0], "made")]))
    lake.write(part)
    assert (done := store.update(SPECS)).how == "computed" and done.added == 3 and done.rebuilt == ()
    later = on(panel, -19)
    later.loc[half, prices] = later.loc[half, prices] / 2
    lake.write(later)
    assert store.update(SPECS).how == "appended"
    agree(store, lake, tmp_path)


def test_a_split_that_was_announced_before_its_day(lake, panel, tmp_path):
    store, part = FeatureStore(lake), on(panel, -20)
    half, prices = part.symbol == "BBB", ["open", "high", "low", "close"]
    lake.write_actions(as_actions([("BBB", part.ts[0], "split", 2.0, part.ts[0] - 5 * DAY, "made")]))
    store.update(SPECS)
    part.loc[half, prices] = part.loc[half, prices] / 2
    lake.write(part)
    assert (done := store.update(SPECS)).how == "computed" and done.added == 3
    agree(store, lake, tmp_path)


def test_bars_from_before_and_a_new_symbol(lake, panel, make_bars, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    lake.write(as_bars(make_bars("DDD", 60, 9, "2021-12-01")))
    assert (done := store.update(SPECS)).rebuilt == () and done.added == 60
    lake.write(as_bars(make_bars("AAA", 30, 8, str((times(panel)[0] - DAY).date()))))
    assert store.update(SPECS).rebuilt == ("AAA",)
    agree(store, lake, tmp_path)


def test_what_does_not_touch_these_bars(lake, panel, make_bars, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    hours = make_bars("AAA", 40)
    hours["ts"] = pd.date_range("2021-06-01", periods=40, freq="h", tz="UTC").as_unit("us")
    lake.write(as_bars(hours.assign(timeframe="1h", known_at=hours.ts + pd.Timedelta("1h"))))
    with pytest.raises(DataError, match="the lake is at"):
        store.read(SPECS)
    assert store.update(SPECS).how == "nothing"
    lake.compact()
    assert (done := store.update(SPECS)).added == 0 and done.rebuilt == ()
    agree(store, lake, tmp_path)


def test_only_some_symbols(lake, panel, tmp_path):
    store = FeatureStore(lake, symbols=["AAA", "CCC"])
    store.update(SPECS)
    lake.write(on(panel, -20))
    assert store.update(SPECS).added == 2
    equal(store.read(SPECS), compute_features(lake.read(["AAA", "CCC"], adjust="total"), SPECS))
    with pytest.raises(DataError, match="BBB"):
        store.read(SPECS, "BBB")
    with pytest.raises(DataError, match="no table of .* yet"):
        FeatureStore(lake).read(SPECS)


@pytest.mark.parametrize("adjust", ["none", "splits"])
def test_other_adjustments(lake, panel, tmp_path, adjust):
    store = FeatureStore(lake, adjust=adjust)
    store.update(SPECS)
    lake.write(on(panel, -20))
    assert store.update(SPECS).how == "appended"
    agree(store, lake, tmp_path, adjust=adjust)


def test_the_newest_row(lake, panel):
    store = FeatureStore(lake)
    store.update(SPECS)
    lake.write(on(panel, -20))
    store.update(SPECS)
    whole = compute_features(lake.read(adjust="total"), SPECS)
    last = whole.drop_duplicates("symbol", keep="last")
    equal(store.latest(SPECS), last)
    equal(store.latest(["sma_20"], ["CCC", "AAA"]), last.query("symbol != 'BBB'")[[*module.KEYS, "sma_20"]])
    equal(FeatureStore(lake).latest(SPECS), last)
    with pytest.raises(DataError, match="symbol"):
        store.latest(SPECS, ["ZZZ"])


def test_another_process_writes(lake, panel, tmp_path):
    one, two = FeatureStore(lake), FeatureStore(lake)
    one.update(SPECS)
    lake.write(on(panel, -20))
    assert two.update(SPECS).added == 3
    assert one.update(SPECS).added == 0
    lake.write(on(panel, -19))
    assert (one.update(SPECS).how, two.update(SPECS).how) == ("appended", "computed")
    agree(one, lake, tmp_path)
    equal(one.latest(SPECS), two.latest(SPECS))


def test_two_at_once(lake, panel, tmp_path):
    stores = [FeatureStore(lake) for _ in range(3)]
    for k in (-20, -19):
        lake.write(on(panel, k))
        threads = [threading.Thread(target=s.update, args=(SPECS,)) for s in stores]
        for t in threads: t.start()
        for t in threads: t.join()
    agree(stores[0], lake, tmp_path)
    assert store_rows(stores[0]) == len(lake.read())


def store_rows(store):
    return int(store.tables().rows.sum())


def test_a_failed_write_leaves_what_was(lake, panel, tmp_path, monkeypatch):
    import deltalake

    store = FeatureStore(lake)
    store.update(SPECS)
    before = store.read(SPECS)
    lake.write(on(panel, -20))

    def full(*_, **__):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(deltalake, "write_deltalake", full)
        with pytest.raises(DataError, match="the disk is full"):
            store.update(SPECS)
    equal(store.read(SPECS, fresh=False), before)
    assert store.update(SPECS).added == 3
    agree(store, lake, tmp_path)


def test_killed_between_the_rows_and_the_note(lake, panel, tmp_path, monkeypatch):
    store = FeatureStore(lake)
    store.update(SPECS)
    lake.write(on(panel, -20))

    def killed(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(module, "_keep_state", killed)
        with pytest.raises(KeyboardInterrupt):
            store.update(SPECS)
    store = FeatureStore(lake)
    assert store.update(SPECS).added == 0
    agree(store, lake, tmp_path)


def test_killed_between_the_rows_and_the_note_and_not_restarted(lake, panel, tmp_path, monkeypatch):
    store = FeatureStore(lake)
    store.update(SPECS)
    lake.write(on(panel, -20))

    def refuse(*_):
        raise DataError("no")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", refuse)
        with pytest.raises(DataError):
            store.update(SPECS)
    lake.write(on(panel, -19))
    assert store.update(SPECS).added == 3
    agree(store, lake, tmp_path)


def test_other_code_is_another_table(registry, lake, tmp_path):
    feature("mine", unit="price", lookback=0)(lambda close: close * 2)
    store = FeatureStore(lake)
    store.update(["mine"])
    before = store.read(["mine"])
    (old,) = store.tables().code
    feature("mine", unit="price", lookback=0)(lambda close: close * 3)
    with pytest.raises(DataError, match="made by other code: mine changed(.|\n)*code='" + old):
        store.read(["mine"])
    with pytest.raises(DataError, match="made by other code"):
        store.latest(["mine"])
    equal(store.read(["mine"], code=old), before)
    assert store.update(["mine"]).added == 230
    assert (store.read(["mine"]).mine == before.mine * 1.5).all()
    assert sorted(store.tables().current) == [False, True]
    with pytest.raises(DataError, match="code"):
        store.read(["mine"], code="0123")


def test_code_is_modules_sources_and_libraries(registry, monkeypatch):
    feature("mine", unit="price", lookback=0)(lambda close: close * 2)
    code = feature_code(["rsi_14"])
    assert not code["functions"]
    assert {"mlfin.features.technical", "mlfin.features.table", "mlfin.features.spec"} <= set(code["modules"])
    assert "mlfin.leakage.lookahead" not in code["modules"]
    assert "mlfin.feature_store.feature_store" not in code["modules"]
    assert list(feature_code(["rsi_14", "mine"])["functions"]) == ["mine"]
    assert code["libraries"]["TA-Lib"] == __import__("talib").__version__


def test_a_set_serves_its_members(lake):
    store = FeatureStore(lake)
    store.update(SPECS)
    equal(store.read(["obv", "ret_5"]), compute_features(lake.read(adjust="total"), ["obv", "ret_5"]))
    with pytest.raises(DataError, match="no table of mom_14"):
        store.read(["mom_14"])
    row = store.tables().iloc[0]
    assert (row.current, row.bars_version, row.rows) == (True, lake.version(), 230)


@pytest.mark.slow
def test_compaction_keeps_every_answer(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    old = lake.read("BBB").iloc[[40]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    store.update(SPECS)
    for k in (-20, -19):
        lake.write(on(panel, k))
        store.update(SPECS)
    first, now = store.read(SPECS, version=0), store.read(SPECS)
    store.compact(SPECS)
    equal(store.read(SPECS), now)
    equal(store.read(SPECS, version=0), first)
    lake.write(on(panel, -18))  # of last year: what was revised today was known without it
    store.update(SPECS)
    agree(store, lake, tmp_path)


def test_compaction_goes_on_with_the_states(lake, panel, tmp_path):
    store = FeatureStore(lake)
    store.update(SPECS)
    store.compact(SPECS)
    lake.write(on(panel, -20))
    assert store.update(SPECS).how == "appended"
    agree(store, lake, tmp_path)


def test_training_rows_by_bar(lake, panel):
    store = FeatureStore(lake)
    store.update(SPECS)
    table = compute_features(lake.read(adjust="total"), SPECS)
    old = lake.read("BBB").iloc[[40]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    store.update(SPECS)
    labels = (
        table[["symbol", "timeframe", "ts"]]
        .assign(t0=table.ts + DAY, fwd_ret_5=0.01)
        .sample(60, random_state=1)
    )
    rows = store.training_set(labels, SPECS)
    assert rows.index.equals(labels.index) and list(rows) == [*labels, "known_at", *table.columns[4:]]
    equal(
        rows[["symbol", "ts", "known_at", *table.columns[4:]]],
        table.loc[labels.index, ["symbol", "ts", "known_at", *table.columns[4:]]],
    )
    assert rows.rsi_14.isna().sum() == (table.loc[labels.index].rsi_14.isna()).sum() > 0


def test_training_rows_by_moment(lake, panel):
    store = FeatureStore(lake)
    store.update(SPECS)
    old = lake.read("BBB").iloc[[99]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 1.01, high=old.high * 1.02))
    store.update(SPECS)
    revised = lake.read("BBB").known_at.iloc[99]
    rng = np.random.default_rng(0)
    moments = [times(panel)[80] + pd.Timedelta(seconds=int(s)) for s in rng.integers(0, 25 * 86_400, 15)]
    moments += [
        revised - pd.Timedelta("1s"),
        revised,
        revised + 400 * DAY,
        times(panel)[81],
        times(panel)[81] - pd.Timedelta("1us"),
    ]
    keys = pd.DataFrame({"symbol": rng.choice(["AAA", "BBB", "CCC"], len(moments)), "at": moments})
    keys.loc[15:17, "symbol"] = "BBB"
    rows = store.training_set(keys, SPECS)
    for key, row in zip(keys.itertuples(), rows.itertuples(), strict=True):
        then = compute_features(lake.read(as_of=key.at, adjust="total"), SPECS, short="nan")
        last = then[then.symbol == key.symbol].iloc[-1]
        assert row.feature_ts == last.ts and row.known_at <= key.at
        for c in then.columns[4:]:
            assert getattr(row, c) == last[c] or np.isnan(last[c])
    assert rows.rsi_14[15] != rows.rsi_14[16] == rows.rsi_14[17]


def test_keys_without_features_are_refused(lake):
    store = FeatureStore(lake)
    store.update(SPECS)
    keys = pd.DataFrame(
        {"symbol": ["AAA", "AAA"], "ts": [lake.read("AAA").ts[5], pd.Timestamp("2031-01-01", tz="UTC")]}
    )
    with pytest.raises(DataError, match="1 of 2 without.*the first is AAA 2031"):
        store.training_set(keys, SPECS)
    with pytest.raises(DataError, match="the first is AAA 1999"):
        store.training_set(
            pd.DataFrame({"symbol": ["AAA"], "at": [pd.Timestamp("1999-01-01", tz="UTC")]}), SPECS
        )
    with pytest.raises(DataError, match="symbol, and ts or at"):
        store.training_set(keys[["symbol"]], SPECS)
    with pytest.raises(DataError, match="without the features' own columns"):
        store.training_set(keys.assign(obv=1.0), SPECS)


def test_no_bars_and_no_table(tmp_path):
    store = FeatureStore(Lake(tmp_path / "lake"))
    with pytest.raises(DataError, match="no table of rsi_14"):
        store.read(["rsi_14"])
    with pytest.raises(DataError, match="no bars"):
        store.update(["rsi_14"])
    assert store.tables().empty


def spread_of(panel):
    close = panel.values("close")
    first = np.nanmax(close, axis=1, keepdims=True)
    return close / first


def test_features_across_symbols(registry, lake, panel, tmp_path):
    feature("share", unit="ratio", lookback=0, kind="panel")(spread_of)
    specs = ["share", "rsi_14"]
    store = FeatureStore(lake)
    store.update(specs)
    lake.write(on(panel, -20))
    assert store.update(specs).how == "appended"
    equal(store.read(specs), compute_features(lake.read(adjust="total"), specs))
    old = lake.read("BBB").iloc[[70]].reset_index(drop=True)
    lake.write(old.assign(close=old.close * 2, high=old.high * 2))
    assert set(store.update(specs).rebuilt) == {"AAA", "BBB", "CCC"}
    natural = lake.read(adjust="total")
    natural["known_at"] = natural.ts + DAY
    equal(
        store.read(specs).drop(columns="known_at"), compute_features(natural, specs).drop(columns="known_at")
    )
    equal(
        store.read(specs, as_of="2021-12-31"),
        compute_features(lake.read(adjust="total", as_of="2021-12-31"), specs),
    )
    lake.write(on(panel, -19))
    assert store.update(specs).how == "computed"
    natural = lake.read(adjust="total")
    natural["known_at"] = natural.ts + DAY
    equal(
        store.read(specs).drop(columns="known_at"), compute_features(natural, specs).drop(columns="known_at")
    )


def joined(frame, facts):
    own = {s: f.sort_values("published") for s, f in facts.groupby("symbol")}
    out = np.full(len(frame), np.nan)
    for i, (symbol, known) in enumerate(zip(frame.symbol, frame.known_at, strict=True)):
        f = own.get(symbol)
        f = None if f is None else f[f.published <= known]
        if f is not None and len(f): out[i] = f.value.iloc[-1]
    return out


def test_features_from_facts(registry, lake, panel, tmp_path):
    feature("earned", unit="ratio", lookback=0, kind="facts", facts=("eps",))(joined)
    days = times(panel)

    def fact(k, value, symbol="AAA"):
        return (symbol, "eps", value, pd.NaT, days[k].tz_localize(None), days[k] + 3.5 * DAY, "made")
    facts = as_facts([fact(5, 1.0), fact(60, 2.0), fact(70, 7.0, "CCC")])
    store, specs = FeatureStore(lake, facts=facts), ["earned", "ret_5"]
    store.update(specs)
    lake.write(on(panel, -20))
    store.facts = as_facts([fact(5, 1.0), fact(60, 2.0), fact(70, 7.0, "CCC"), fact(97, 3.0)])
    assert store.update(specs).how == "appended"
    equal(store.read(specs), compute_features(lake.read(adjust="total"), specs, facts=store.facts))
    assert store.latest(specs).set_index("symbol").earned["AAA"] == 3.0
    store.facts = as_facts([fact(5, 1.0), fact(60, 2.5), fact(70, 7.0, "CCC"), fact(97, 3.0)])
    lake.write(on(panel, -19))
    assert store.update(specs).rebuilt == ("AAA",)
    equal(store.read(specs), compute_features(lake.read(adjust="total"), specs, facts=store.facts))


def test_adjustment_and_calendar_make_other_tables(lake):
    one, two = FeatureStore(lake), FeatureStore(lake, adjust="none")
    one.update(["sma_20"])
    with pytest.raises(DataError, match="no table of sma_20"):
        two.read(["sma_20"])
    two.update(["sma_20"])
    assert len(one.tables()) == 2


@pytest.fixture(params=["process", "redis"])
def place(request):
    return "" if request.param == "process" else request.getfixturevalue("redis_url")


def test_the_newest_row_is_the_same_through_a_cache(lake, panel, place):
    writer, reader = FeatureStore(lake, cache=place), FeatureStore(lake, cache=place)
    writer.update(SPECS)
    for k in (-20, -19, -18):
        bare = FeatureStore(lake, cache="").latest(SPECS)  # asks the table
        equal(reader.latest(SPECS), bare)
        equal(reader.latest(SPECS), bare)                   # asks the cache
        equal(writer.latest(SPECS), bare)  # has it in memory
        equal(
            reader.latest(["obv"], ["BBB"]),
            bare[bare.symbol == "BBB"][["symbol", "timeframe", "ts", "known_at", "obv"]],
        )
        with pytest.raises(DataError, match="ZZZ"):
            reader.latest(SPECS, ["ZZZ"])
        lake.write(on(panel, k))
        writer.update(SPECS)


def test_another_process_is_spared_the_table(lake, panel, redis_url, monkeypatch):
    writer, reader = FeatureStore(lake, cache=redis_url), FeatureStore(lake, cache=redis_url)
    writer.update(SPECS)
    lake.write(on(panel, -20))
    writer.update(SPECS)
    monkeypatch.setattr(module.FeatureTable, "load", lambda *a: pytest.fail("the table was read"))
    equal(reader.latest(SPECS), writer.latest(SPECS))


def test_two_stores_of_the_same_name_do_not_meet_in_redis(tmp_path, panel, redis_url):
    found = []
    for k, part in enumerate((panel[panel.symbol != "CCC"], panel[panel.symbol != "AAA"])):
        lake = Lake(tmp_path / "lake")
        lake.write(part.reset_index(drop=True))
        FeatureStore(lake, cache=redis_url).update(SPECS)
        found.append(list(FeatureStore(lake, cache=redis_url).latest(SPECS).symbol))
        (tmp_path / "lake").rename(tmp_path / f"moved{k}")
    assert found == [["AAA", "BBB"], ["BBB", "CCC"]]


def test_the_setting_names_the_server(tmp_path, panel, redis_url):
    from mlfin.core.settings import Settings

    here = dict(
        profile="test",
        root=tmp_path,
        store=str(tmp_path / "lake"),
        mlflow="",
        artifacts="",
        ledger=tmp_path / "l",
    )
    Lake(tmp_path / "lake").write(panel)
    assert type(FeatureStore(Settings(**here)).cache).__name__ == "Cache"
    store = FeatureStore(Settings(**here, redis=redis_url))
    store.update(SPECS)
    equal(FeatureStore(Settings(**here, redis=redis_url)).latest(SPECS), store.latest(SPECS))
    assert type(store.cache).__name__ == "RedisCache"
