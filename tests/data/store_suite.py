"""What every store must do, written against the interface: a store's tests subclass `StoreSuite` and say how to open one."""

import random
import threading

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.data.actions import as_actions
from mlfin.data.bars import as_bars
from mlfin.data.facts import as_facts
from mlfin.data.lake import Lake
from mlfin.data.records import FACT_KEY as FACTS_KEY
from mlfin.data.records import FACTS, METRICS, PREDICTIONS, as_metrics, as_predictions, record_of
from mlfin.data.repair import repair, repair_log, unrepair
from mlfin.data.sources import quarantine_rows
from mlfin.data.store import Store, WriteResult

HOUR, MINUTE = pd.Timedelta(hours=1), pd.Timedelta(minutes=1)
KEYS = ["symbol", "timeframe", "ts", "model", "version"]
START = pd.Timestamp("2024-05-01", tz="UTC").as_unit("us")


def same(left, right):
    pd.testing.assert_frame_equal(left, right, check_exact=True)


def signals(minutes=4):
    """Predictions of two versions of a classifier and of a regression, for two symbols, sorted by key."""
    at = START + pd.to_timedelta(np.arange(minutes), unit="min")
    parts = [pd.DataFrame(dict(symbol=s, timeframe="1m", ts=at, model=m, version=v, probability=p, prediction=x, threshold=0.55,
                               label=pd.array([1, 0, None, -1] * (minutes // 4 + 1), dtype="Int64")[:minutes],
                               created_at=at + MINUTE + pd.Timedelta(seconds=2)))
             for s in "AB" for m, v, p, x in (("line", 1, np.nan, 0.125), ("tree", 1, 1 / 3, np.nan), ("tree", 2, 0.1 + 0.2, np.nan))]
    return as_predictions(pd.concat(parts)).sort_values(KEYS, ignore_index=True)


def metrics():
    rows = [("tree", v, m, 0.5 + v / 10, START + n * pd.Timedelta(days=1)) for v in (1, 2) for n, m in enumerate(("auc", "brier"))]
    return as_metrics([*rows, ("line", 1, "mse", 0.1, START)]).sort_values(["model", "version", "metric", "at"], ignore_index=True)


def facts():
    "Quarterly earnings with a restatement, shares without a start of their period, and a number for everyone."
    day = pd.Timestamp
    return as_facts([("A", "eps", 1.5, day("2023-01-01"), day("2023-03-31"), day("2023-05-01", tz="UTC"), "t"),
                     ("A", "eps", 1.4, day("2023-01-01"), day("2023-03-31"), day("2023-06-01", tz="UTC"), "t"),
                     ("A", "shares", 1e9, pd.NaT, day("2023-03-31"), day("2023-05-01", tz="UTC"), "t"),
                     ("B", "eps", -0.5, day("2023-01-01"), day("2023-03-31"), day("2023-05-11", tz="UTC"), ""),
                     ("*", "cpi", 303.3, day("2023-04-01"), day("2023-04-30"), day("2023-05-10 12:30", tz="UTC"), "bls")])


def features(minutes=5):
    at = START + pd.to_timedelta(np.arange(minutes), unit="min")
    frames = [pd.DataFrame(dict(symbol=s, timeframe="1m", ts=at, known_at=at + MINUTE, sma_5=np.arange(minutes) / 7,
                                rsi_14=[np.nan, *np.arange(1, minutes) / 3]))
              for s in "AB"]
    return pd.concat(frames, ignore_index=True).astype({"symbol": "str", "timeframe": "str"})


class StoreSuite:
    """Subclasses give a fixture `reopen`: a function that opens one and the same store, new in each test, each time."""

    @pytest.fixture
    def other(self, tmp_path) -> Store:
        """A store to move to and from."""
        return Lake(tmp_path / "other")

    @pytest.fixture(params=["out", "in"])
    def pair(self, request, store, other) -> tuple[Store, Store]:
        """Where rows come from and where they go: out of the store, or into it."""
        return (store, other) if request.param == "out" else (other, store)

    @pytest.fixture
    def store(self, reopen) -> Store:
        return reopen()

    def test_round_trip_and_idempotence(self, store, reopen, make):
        assert isinstance(store, Store) and store.version() == -1 and store.read().empty and store.versions().empty
        bars = as_bars(pd.concat([make("A"), make("B", seed=1), make("A", "1h", end="2024-01-10")]))
        result = store.write(bars)
        assert result == WriteResult(len(bars), 0, 0, store.version(), 0)
        days, hours = (bars[bars.timeframe == t].reset_index(drop=True) for t in ("1d", "1h"))
        for opened in (store, reopen()):
            same(opened.read(["A", "B"]), days)
            same(opened.read(), days)
            same(opened.read(timeframe="H1"), hours)
            same(opened.read("B"), days[days.symbol == "B"].reset_index(drop=True))
        again = reopen().write(bars)
        assert again == WriteResult(0, 0, len(bars), result.version, 0)
        more = store.write(as_bars(pd.concat([bars, make("C", seed=2)])))
        assert more.inserted == len(make("C")) and more.unchanged == len(bars)
        for after in range(-1, store.version() + 2): same(store.versions(after), store.versions().iloc[after + 1:].reset_index(drop=True))
        assert list(store.versions().version) == list(range(store.version() + 1)) and store.versions().inserted.sum() == len(store.read()) + len(hours)
        assert store.write(bars.iloc[:0]) == WriteResult(0, 0, 0, store.version(), 0)

    def test_periods_and_columns(self, store, make):
        store.write(make("A"))
        assert list(store.read(["A"], start="2024-01-30", end="2024-02-01").ts.dt.day) == [30, 31, 1]
        assert store.read(["A"], start="2030-01-01").empty
        some = store.read(["A"], columns=["volume", "close"], end="2024-01-02")
        assert list(some) == ["symbol", "timeframe", "ts", "known_at", "close", "volume"] and len(some) == 2
        assert store.read(["A"], columns=["vwap"]).vwap.isna().all()
        with pytest.raises(DataError, match="did you mean `close`"):
            store.read(["A"], columns=["clsoe"])
        with pytest.raises(DataError, match="one that the lake has 1d bars of, got 'Z'|symbol"):
            store.read(["A", "Z"])

    def test_marks_of_a_repair_stay_on_the_row(self, store, reopen, make):
        bars = pd.concat([make("A"), make("B", seed=1)], ignore_index=True)
        raw = bars.assign(high=bars.high.where(bars.index != 7, bars.high * 100))
        raw = pd.concat([raw, raw.iloc[[3]]], ignore_index=True)
        mended = repair(raw)
        assert (mended.repaired != "").sum() == 2
        store.write(make("B", seed=1))
        done = store.write(mended)
        assert (done.inserted, done.revised) == (len(make("A")), 0)
        for opened in (store, reopen()):
            found = opened.read()
            same(found, as_bars(mended))
            same(as_bars(unrepair(found)), as_bars(raw))
            assert "repaired" not in opened.read("B") and len(repair_log(opened.read("A"))) == 2
            assert (opened.read("B", columns=["close", "repaired"]).repaired == "").all()
        assert store.write(mended).unchanged == len(bars)
        store.push(mended[mended.repaired != ""].reset_index(drop=True))
        same(store.read(), found)
        store.fold(), store.compact()
        same(store.read(), found)
        before = pd.Timestamp.now("UTC")
        assert store.write(bars).revised == 2 and "repaired" not in store.read()  # the source mended it: no mark stays
        same(store.read(as_of=before), found)
        with pytest.raises(DataError, match="raw bars"):
            unrepair(store.read("A", as_of=before).assign(factor=0.5))

    def test_revisions_and_time_travel(self, store, make):
        bars = make("A")
        first = store.write(bars)
        store.write(bars.assign(close=bars.close * 1.001))
        last = store.write(bars.assign(close=bars.close * 1.002))
        assert last.revised == len(bars) and last.inserted == 0

        def stands():
            assert (store.read(["A"]).close == bars.close * 1.002).all()
            same(store.read(["A"], version=first.version), bars)
            same(store.read(["A"], as_of="2024-06-01"), bars)
            assert len(store.read(["A"], as_of="2024-01-15")) == 14  # the fifteenth bar had not closed
            assert (store.read(["A"]).known_at > pd.Timestamp("2026-01-01", tz="UTC")).all()

        stands()
        store.compact()
        stands()
        back = store.write(bars)  # the old value again is a revision too
        assert back.revised == len(bars) and (store.read(["A"]).close == bars.close).all()
        with pytest.raises(DataError, match="`version` must be"):
            store.read(version=store.version() + 1)

    def test_a_partial_batch_says_what_it_did(self, store, make):
        bars = make("A", "1m", "2024-01-01", "2024-01-02")
        store.write(bars.iloc[:1000])
        part = bars.iloc[900:1100].reset_index(drop=True)
        part.loc[[0, 50], "close"] *= 1.001
        done = store.write(part)
        assert (done.inserted, done.revised, done.unchanged) == (100, 2, 98) and len(store.read(timeframe="1m")) == 1100

    def test_optional_columns_and_missing_values(self, store, make):
        bars = as_bars(make("A").assign(vwap=100.0, trades=np.nan))
        store.write(bars)
        assert store.write(bars).unchanged == len(bars)
        assert list(store.read(["A"]).columns[-2:]) == ["volume", "vwap"]
        hollow = make("N").assign(volume=np.nan)
        store.write(hollow)
        same(store.read("N"), hollow)
        store.write(as_bars(make("A", start="2024-04-01", end="2024-04-02").assign(trades=7.0)))
        assert store.read("A").trades.notna().sum() == 2

    def test_symbols_are_only_values(self, store, make):
        names = ["EUR/USD", "../../up", "a=b", "%2e", "x y", "Ω", "A'B\"C", ".", "..", "\\", "NULL", "é" * 80]
        bars = as_bars(pd.concat([make(s, start="2024-03-01", end="2024-04-01", seed=i) for i, s in enumerate(names)]))
        for put, some in ((store.write, bars.ts < bars.ts.max()), (store.push, bars.ts == bars.ts.max())):
            put(bars[some].reset_index(drop=True))
        for change in (lambda: None, store.compact):
            change()
            assert list(store.series().symbol) == sorted(names)
            for symbol in names:
                found = store.read(symbol)
                assert set(found.symbol) == {symbol} and len(found) == 32
                assert found.close.tolist() == bars.close[bars.symbol == symbol].tolist()

    @pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.slow)])
    def test_thousands_of_symbols(self, store, make, count):
        one = make("X", end="2024-01-03")
        names = [f"S{i:05d}" for i in range(count)]
        many = pd.concat([one] * len(names), ignore_index=True).assign(symbol=np.repeat(np.array(names), len(one)))
        many = as_bars(many)
        assert store.write(many).inserted == 3 * count
        store.compact()
        assert len(store.read("S00321")) == 3 and len(store.read(names[:count // 2])) == count // 2 * 3
        same(store.read(), many)
        assert store.write(many.assign(volume=many.volume + (many.symbol == "S00007"))).revised == 3

    def test_unfit_rows_are_set_aside(self, store, make):
        bars = make("A", end="2024-01-09")
        bars.loc[2, "close"] = np.nan
        bars.loc[3, "high"] = np.inf
        soon = pd.Timestamp.now("UTC").floor("h") + HOUR
        bars = pd.concat([bars, bars.iloc[[0]].assign(ts=soon.as_unit("us"), known_at=(soon + HOUR).as_unit("us"))])
        bars = as_bars(bars)
        done = store.write(bars, origin="csv:1")
        assert (done.inserted, done.quarantined) == (7, 3) and len(store.read()) == 7
        aside = store.read_quarantine("csv:1")
        assert list(aside.row) == [2, 3, 9] and aside.reason[2] == "the bar has not closed yet" and '"inf"' in aside.raw[1]
        assert store.push(bars.iloc[[9]].reset_index(drop=True)) == 0 and len(store.read_quarantine("push")) == 1
        again = store.write(bars, origin="csv:1")
        assert (again.unchanged, again.quarantined) == (7, 3) and len(store.read_quarantine("csv:1")) == 3

    def test_refuses_what_is_not_raw_or_not_bars(self, store, make):
        for take in (store.write, store.push):
            with pytest.raises(DataError, match="must be raw to be stored"):
                take(make().assign(factor=2.0))
            with pytest.raises(DataError, match="missing: close"):
                take(make().drop(columns="close"))
            with pytest.raises(DataError, match="one row a key"):
                take(pd.concat([make(), make()], ignore_index=True))
        assert store.version() == -1 and store.read().empty

    def test_actions_and_adjusted_prices(self, store, make):
        bars = make("A")
        events = as_actions([("A", bars.ts[5], "split", 2.0, bars.known_at[5], "test"),
                             ("B", bars.ts[9], "dividend", 0.5, bars.known_at[9], "test")])
        prices = ["open", "high", "low", "close"]
        bars.loc[5:, prices] = bars.loc[5:, prices] / 2  # two shares for one
        store.write(bars)
        assert store.write_actions(events).inserted == 2 and store.write_actions(events).unchanged == 2
        same(store.read_actions(), events)
        assert list(store.read_actions(["B"]).kind) == ["dividend"] and len(store.read_actions(as_of=bars.known_at[6])) == 1
        split = store.read("A", adjust="splits")
        assert np.allclose(split.close[5:], bars.close[5:] * 2) and (split.close[:5] == bars.close[:5]).all()
        assert list(store.read("A", adjust="total", columns=["close"])) == ["symbol", "timeframe", "ts", "known_at", "close", "factor"]
        before = store.read("A", adjust="splits", as_of=bars.known_at[4])
        assert len(before) == 5 and (before.factor == 1).all()
        assert store.write_actions(events.assign(value=[4.0, 0.5])).revised == 1
        assert list(store.read_actions(["A"]).value) == [4.0]
        assert list(store.read_actions(["A"], as_of="2024-12-31").value) == [2.0]

    def test_quarantine(self, store):
        rows = quarantine_rows("csv:1", [3, 9], ["A", None], [pd.NaT, pd.NaT], ["bad", "short"], [{"close": "x"}, {"row": "1,2"}])
        assert store.write_quarantine(rows).inserted == 2 and store.write_quarantine(rows).inserted == 0
        same(store.read_quarantine("csv:1"), rows)
        assert store.read_quarantine("csv:2").empty

    def test_pushed_bars_are_seen_at_once_and_folded_once(self, store, reopen, make):
        bars = make("A", "1m", "2024-01-01", "2024-01-01T01:00")
        store.write(bars.iloc[:30].reset_index(drop=True))
        for n in range(25, 50):
            assert store.push(bars.iloc[[n]].reset_index(drop=True)) == 1
        version = store.version()
        same(reopen().read(timeframe="1m"), bars.iloc[:50])
        same(store.read("A", "1m", version=version), bars.iloc[:30])
        changed = bars.iloc[[45]].assign(close=bars.close[45] * 1.01).reset_index(drop=True)
        before = pd.Timestamp.now("UTC")
        store.push(changed)
        assert store.read("A", "1m").close[45] == changed.close[0] and store.read("A", "1m", as_of=before).close[45] == bars.close[45]
        assert store.read("A", "1m", start=bars.ts[45], end=bars.ts[45]).known_at[0] > before
        done = store.fold()
        assert (done.inserted, done.revised, done.unchanged) == (20, 1, 5) and done.version > version
        assert store.read("A", "1m").close[45] == changed.close[0] and store.read("A", "1m", as_of=before).close[45] == bars.close[45]
        assert store.fold() == WriteResult(0, 0, 0, done.version) and len(reopen().read(timeframe="1m")) == 50

    def test_readers_never_see_less_while_bars_are_pushed_and_folded(self, store, reopen, make):
        bars, many = make("A", "1m", "2024-01-01", "2024-01-01T01:00"), 20
        pushed, errors = [0], []

        def push():
            own = reopen()
            for n in range(many):
                own.push(bars.iloc[[n]].reset_index(drop=True))
                pushed[0] = n + 1

        def fold():
            own = reopen()
            while pushed[0] < many:
                own.fold()

        def guarded(work):
            try:
                work()
            except Exception as e:  # noqa: BLE001 - a thread's error must reach the test
                errors.append(e)
                pushed[0] = many

        threads = [threading.Thread(target=guarded, args=(work,)) for work in (push, fold)]
        for thread in threads:
            thread.start()
        while pushed[0] < many:
            least = pushed[0]
            found = store.read(timeframe="1m")
            assert least <= len(found) and not found.duplicated(["symbol", "ts"]).any()
        for thread in threads:
            thread.join()
        assert not errors
        same(store.read(timeframe="1m"), bars.iloc[:many])

    @pytest.mark.parametrize("seed", [9, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (0, 1, 2, 5))])  # 5 and 9 do all five things
    def test_any_order_of_writes_agrees_with_a_plain_history(self, reopen, make, seed):
        chance, store = random.Random(seed), reopen()
        bars = as_bars(pd.concat([make(s, end="2024-01-20", seed=i) for i, s in enumerate(["A", "B", "C/D"])]))
        history, moments, versions = {}, [], []
        for step in range(14):
            rows = bars[[chance.random() < 0.3 for _ in range(len(bars))]].reset_index(drop=True)
            rows["volume"] = [float(chance.choice([10, 10, 11, 12])) for _ in range(len(rows))]
            kind = chance.choice(["write", "write", "push", "push", "fold", "compact", "reopen"])
            if kind in ("write", "push"):
                for row in rows.itertuples():
                    own = history.setdefault((row.symbol, row.ts), [])
                    if not own or own[-1][1] != row.volume:
                        own.append((step if own else -1, row.volume))
                getattr(store, kind)(rows)
            elif kind == "reopen":
                store = reopen()
            else:
                getattr(store, kind)()
            moments.append(pd.Timestamp.now("UTC"))
            if kind == "write":
                versions.append((store.version(), {k: v[-1][1] for k, v in history.items()}))

        def found(**query):
            return {(r.symbol, r.ts): r.volume for r in store.read(columns=["volume"], **query).itertuples()}

        for final in (False, True):
            for step, at in enumerate(moments):
                expected = {k: [v for s, v in own if s <= step][-1] for k, own in history.items()}
                assert found(as_of=at) == expected, (step, final)
            assert found() == {k: v[-1][1] for k, v in history.items()}
            told = {s: (own.ts.size, own.ts.min(), own.ts.max()) for s, own in store.read(columns=[]).groupby("symbol")}
            assert {r.symbol: tuple(r)[3:] for r in store.series().itertuples()} == told
            for version, expected in versions:
                assert found(version=version) == expected
            store.compact()

    def test_series_say_what_there_is(self, store, reopen, make):
        assert list(store.series()) == ["symbol", "timeframe", "rows", "first", "last"] and store.series().empty
        days = as_bars(pd.concat([make("A"), make("B", seed=1), make("C/D", end="2024-01-20")]))
        minutes = make("A", "1m", "2024-01-01", "2024-01-02")

        def stands():
            frames = [store.read(timeframe=t, columns=[]) for t in ("1d", "1m")]
            expected = pd.concat(frames).groupby(["symbol", "timeframe"]).ts.agg(rows="size", first="min", last="max").reset_index()
            for opened in (store, reopen()):
                pd.testing.assert_frame_equal(opened.series(), expected, check_exact=True)
            return dict(zip(expected.symbol + " " + expected.timeframe, expected["rows"], strict=True))

        store.push(make("P", end="2024-01-03"))  # nothing but pushed
        assert stands() == {"P 1d": 3}
        store.write(days)
        store.write(minutes.iloc[:1000])
        assert stands() == {"A 1d": 91, "A 1m": 1000, "B 1d": 91, "C/D 1d": 20, "P 1d": 3}
        store.write(days.assign(close=days.close * 1.001))  # revisions are no more bars
        store.write(minutes.iloc[900:1100].reset_index(drop=True))
        store.push(minutes.iloc[1090:1110].reset_index(drop=True))  # ten there, ten new
        store.push(minutes.iloc[1100:1105].reset_index(drop=True))  # and again
        assert stands()["A 1m"] == 1110
        for change in (store.fold, store.compact, lambda: store.vacuum(0)):
            change()
            assert stands() == {"A 1d": 91, "A 1m": 1110, "B 1d": 91, "C/D 1d": 20, "P 1d": 3}

    def test_history_and_restore_make_a_twin(self, pair, make):
        store, other = pair
        bars = as_bars(pd.concat([make("A"), make("B/C", seed=1)]))
        minutes = make("A", "1m", "2024-01-01", "2024-01-02")
        moments = [pd.Timestamp.now("UTC")]

        def then(change, *what):
            change(*what)
            moments.append(pd.Timestamp.now("UTC"))

        then(store.write, bars)
        then(store.write, minutes.assign(trades=7.0))
        then(store.push, bars.iloc[[5, 99]].assign(close=bars.close * 1.01).reset_index(drop=True))
        then(store.fold)
        then(store.write, repair(bars.assign(high=bars.high.where(bars.index != 7, bars.high * 100))))
        then(store.write, bars.assign(volume=np.nan))
        then(store.compact)
        then(store.push, bars.iloc[[5]].assign(close=-0.0).reset_index(drop=True))  # still in the journal
        then(store.push, bars.iloc[[5]].assign(close=2.0).reset_index(drop=True))
        assert store.history(symbols=["Z"]).empty and store.history(timeframe="4h").empty
        days = store.history()
        assert len(days) > len(bars) * 2 and not days.duplicated(["symbol", "ts", "recorded_at"]).any()
        asked = days.symbol.eq("A") & days.ts.dt.day.isin([2, 3]) & days.ts.dt.month.eq(1)
        assert len(store.history(symbols=["A"], start="2024-01-02", end="2024-01-03")) == asked.sum()

        def equal(left, right, *moments):
            for timeframe in ("1d", "1m"):
                same(left.history(timeframe=timeframe), right.history(timeframe=timeframe))
            for how in (dict(timeframe="1m"), *(dict(as_of=at) for at in (None, *moments))):
                same(left.read(**how), right.read(**how))
            same(left.series(), right.series())

        mixed = days.sample(frac=1, random_state=1)  # in any order, in any pieces, each any number of times
        for part in (mixed[:200], mixed[100:300], mixed[300:], mixed, days):
            other.restore(part)
        done = other.restore(store.history(timeframe="1m"))
        assert (done.inserted, done.revised, done.unchanged) == (len(minutes), 0, 0)
        equal(store, other, "2024-02-01 12:00", *moments)
        same(store.read(timeframe="1m", as_of=moments[1]), other.read(timeframe="1m", as_of=moments[1]))
        assert other.restore(days) == WriteResult(0, 0, len(days), other.version())
        for change, some in ((store.fold, moments[-2:]), (other.compact, moments), (store.compact, moments[2:3])):
            change()
            equal(store, other, *some)
        changed = bars.assign(close=bars.close * 1.5)
        assert other.write(changed).revised == len(bars) == store.write(changed).revised  # both go on as stores do

    def test_restore_refuses_what_contradicts(self, pair, make):
        store, other = pair
        store.write(make("A"))
        rows = store.history()
        other.restore(rows.iloc[:50])
        before = other.history()
        for wrong, words in ((rows.assign(close=rows.close + 1), "other values"), (rows.assign(known_at=rows.recorded_at), "other values"),
                             (rows.drop(columns="recorded_at"), "history"), (pd.concat([rows, rows]), "one row for each key"),
                             (rows.assign(open=np.inf), "may hold"), (rows.assign(recorded_at=pd.NaT), "one row for each key")):
            with pytest.raises(DataError, match=words):
                other.restore(wrong)
        with pytest.raises(DataError, match="`what`"):
            other.restore(rows, "bar")
        same(other.history(), before)
        assert other.restore(rows.iloc[:0]).inserted == 0

    def test_actions_and_quarantine_move_with_their_moments(self, pair):
        store, other = pair
        at = pd.Timestamp("2024-01-05", tz="UTC")
        events = as_actions([("A", at, "split", 2.0, at, "test"), ("B", at, "dividend", 0.5, at, "test")])
        store.write_actions(events)
        before = pd.Timestamp.now("UTC")
        store.write_actions(events.assign(value=[4.0, 0.5]))
        aside = quarantine_rows("csv:1", [3, 9], ["A", None], [pd.NaT, pd.NaT], ["bad", "short"], [{"close": "x"}, {"row": "1,2"}])
        store.write_quarantine(aside)
        for _ in range(2):
            for what in ("actions", "quarantine"):
                other.restore(store.history(what), what)
                same(other.history(what), store.history(what))
        for moment in (None, before, "2024-01-04"):
            same(other.read_actions(as_of=moment), store.read_actions(as_of=moment))
        same(other.read_quarantine("csv:1"), aside)
        assert len(store.history("actions")) == 3 and list(store.history("actions", ["B"]).symbol) == ["B"]
        with pytest.raises(DataError, match="other values"):
            other.restore(store.history("actions").assign(value=9.0), "actions")

    def test_the_stamp_changes_with_every_bar(self, store, reopen, make):
        bars, seen = make("A", end="2024-01-20"), [store.stamp()]
        for change in (lambda: store.write(bars[:5]), lambda: store.push(bars[5:6].reset_index(drop=True)),
                       lambda: store.push(bars[6:7].reset_index(drop=True)), lambda: store.fold(), lambda: store.push(bars[7:8].reset_index(drop=True)),
                       lambda: store.write(bars.assign(volume=3.0))):
            change()
            assert store.stamp() == reopen().stamp() and store.stamp() not in seen
            seen.append(store.stamp())
        store.read(), store.series(), store.write(bars[:0])
        assert store.stamp() == seen[-1]

    def test_vacuum_forgets_old_versions_only(self, store, make):
        bars = make("A")
        first = store.write(bars.iloc[:40].reset_index(drop=True))
        store.write(bars)
        store.compact()
        assert store.vacuum() == 0 and len(store.read(version=first.version)) == 40
        assert store.vacuum(retention=pd.Timedelta(0)) > 0
        same(store.read("A"), bars)
        with pytest.raises(DataError, match="retention"):
            store.vacuum(retention=-1)

    def test_export(self, store, make, tmp_path):
        bars = as_bars(pd.concat([make("A"), make("B", seed=1)]))
        store.write(bars)
        for name in ("x.csv", "y.csv.gz", "z.parquet"):
            path = store.export(tmp_path / name, ["B"], start="2024-02-01")
            back = pd.read_parquet(path) if name.endswith("parquet") else pd.read_csv(path, parse_dates=["ts", "known_at"])
            pd.testing.assert_frame_equal(as_bars(back), store.read("B", start="2024-02-01"))
            assert [p.name for p in tmp_path.iterdir() if p.name.startswith((name[0], f".{name[0]}"))] == [name]

    def test_predictions_round_trip_and_idempotence(self, store, reopen):
        assert list(store.read_predictions()) == list(PREDICTIONS) and store.read_predictions().empty
        rows = signals()
        first = store.write_predictions(rows)
        assert (first.inserted, first.revised, first.unchanged, first.quarantined) == (len(rows), 0, 0, 0)
        for opened in (store, reopen()):
            same(opened.read_predictions(), rows)
            same(opened.read_predictions("B"), rows[rows.symbol == "B"].reset_index(drop=True))
            same(opened.read_predictions(timeframe="M1", model="tree", version=2), rows[(rows.model == "tree") & (rows.version == 2)].reset_index(drop=True))
            same(opened.read_predictions(start="2024-05-01 00:01", end="2024-05-01 00:02"), rows[rows.ts.dt.minute.between(1, 2)].reset_index(drop=True))
        assert reopen().write_predictions(rows) == WriteResult(0, 0, len(rows), first.version)
        more = store.write_predictions(signals(minutes=6))
        assert more.unchanged == len(rows) and more.inserted > 0 and more.version > first.version
        for change in (store.fold, store.compact, lambda: store.vacuum(0)):
            change()
            same(reopen().read_predictions(), signals(minutes=6))
        assert store.write_predictions(rows.iloc[:0]) == WriteResult(0, 0, 0, more.version)
        assert {c: str(d) for c, d in store.read_predictions("nobody").dtypes.items()} == PREDICTIONS

    def test_predictions_are_revised_and_read_as_of_a_moment(self, store, reopen):
        rows = signals()
        store.write_predictions(rows)
        before = pd.Timestamp.now("UTC")
        changed = rows.assign(probability=rows.probability.where(rows.model != "tree", 0.25))
        done = store.write_predictions(changed)
        tree = int((rows.model == "tree").sum())
        assert (done.inserted, done.revised, done.unchanged) == (0, tree, len(rows) - tree)

        def stands(opened):
            same(opened.read_predictions(), changed)
            same(opened.read_predictions(as_of=before), rows)
            assert len(opened.read_predictions(as_of="2024-05-01 00:02:05")) == (rows.created_at <= pd.Timestamp("2024-05-01 00:02:05", tz="UTC")).sum() > 0
            assert opened.read_predictions(as_of="2024-04-30").empty

        stands(store)
        store.compact()
        stands(reopen())
        assert store.write_predictions(rows).revised == tree
        same(store.read_predictions(), rows)
        assert store.write_predictions(rows.assign(label=pd.array([None] * len(rows), dtype="Int64"))).revised == int(rows.label.notna().sum())

    def test_the_latest_prediction_of_each(self, store, reopen):
        rows = signals()
        store.write_predictions(rows)
        store.fold()
        last = rows.ts.max()
        later = as_predictions([("A", "1m", last + MINUTE, "tree", 1, 0.9, None, 0.5, 1, last + 2 * MINUTE)])
        store.write_predictions(later)
        found = reopen().read_predictions(latest=True)
        assert list(zip(found.symbol, found.model, found.version, strict=True)) == [("A", "line", 1), ("A", "tree", 1), ("B", "line", 1), ("B", "tree", 2)]
        assert found.ts[1] == last + MINUTE and (found.ts.drop(1) == last).all()
        assert store.read_predictions("A", model="tree", latest=True, as_of=rows.created_at.max()).ts[0] == last

    def test_bad_predictions_are_set_aside_and_the_good_ones_kept(self, store):
        rows = signals(minutes=1)
        base = rows[rows.model == "tree"].iloc[[0]].reset_index(drop=True)
        soon = pd.Timestamp.now("UTC").as_unit("us") + pd.Timedelta(hours=1)
        bad = [dict(probability=np.inf), dict(probability=1.5), dict(probability=np.nan), dict(prediction=0.1), dict(model=""), dict(symbol=""),
               dict(threshold=np.inf), dict(created_at=base.ts[0] - HOUR), dict(created_at=soon), dict(probability=np.nan, prediction=-np.inf)]
        frame = pd.concat([rows, *(base.assign(version=100 + i, **b) for i, b in enumerate(bad))], ignore_index=True)
        done = store.write_predictions(frame)
        assert (done.inserted, done.quarantined) == (len(rows), len(bad))
        same(store.read_predictions(), rows)
        aside = store.read_quarantine("predictions")
        assert list(aside.row) == list(range(len(rows), len(frame))) and aside.reason.str.len().all() and aside.reason.nunique() == 7
        assert store.write_predictions(frame).unchanged == len(rows) and len(store.read_quarantine("predictions")) == len(bad)

    def test_predictions_of_wrong_types_are_refused_whole(self, store):
        clockless = pd.Timestamp("2024-05-01").as_unit("us")
        for change, said in [
                (dict(ts=clockless), "time zone"), (dict(created_at=clockless), "time zone"), (dict(ts="2024-05-01T00:00Z"), "time zone"),
                (dict(probability="0.5"), "numbers"), (dict(version="2"), "numbers"), (dict(version=1.5), "whole numbers"), (dict(label=0.5), "whole numbers"),
                (dict(symbol=7), "text"), (dict(model="a\0b"), "text"), (dict(timeframe="1 fortnight"), "timeframe"), (dict(outcome=1.0), "outcome too"),
                (dict(fwd_ret_1=0.1), "fwd_ret_1 too")]:
            with pytest.raises(DataError, match=said):
                store.write_predictions(signals(minutes=1).assign(**change))
        assert store.read_predictions().empty and store.read_quarantine("predictions").empty

    def test_frames_with_missing_columns_or_repeated_keys_are_refused(self, store):
        with pytest.raises(DataError, match="created_at"):
            store.write_predictions(signals().drop(columns="created_at"))
        with pytest.raises(DataError, match="one row a key"):
            store.write_predictions(pd.concat([signals(), signals().assign(probability=0.1)]))
        with pytest.raises(DataError, match="none called value"):
            store.write_metrics(metrics().drop(columns="value"))
        with pytest.raises(DataError, match="a frame with the columns"):
            store.write_facts(facts().drop(columns="origin"))
        assert store.read_predictions().empty and store.read_metrics().empty and store.read_facts().empty

    def test_metrics(self, store, reopen):
        assert list(store.read_metrics()) == list(METRICS) and store.read_metrics().empty
        rows = metrics()
        assert store.write_metrics(rows).inserted == len(rows) and reopen().write_metrics(rows).unchanged == len(rows)
        same(reopen().read_metrics(), rows)
        assert list(store.read_metrics("tree", metric=["auc"]).version) == [1, 2] and store.read_metrics(version=2).model.unique().tolist() == ["tree"]
        before = pd.Timestamp.now("UTC")
        assert store.write_metrics(rows.assign(value=rows.value + (rows.metric == "auc"))).revised == (rows.metric == "auc").sum()
        same(store.read_metrics(as_of=before), rows)
        assert store.read_metrics(start="2024-05-02")["at"].min() >= pd.Timestamp("2024-05-02", tz="UTC")
        store.compact()
        assert (reopen().read_metrics(metric="auc").value > 1).all()
        done = store.write_metrics(as_metrics([("tree", 1, "auc", np.nan, rows["at"][0] + HOUR), ("tree", 1, "auc", np.inf, rows["at"][0] + 2 * HOUR),
                                               ("tree", 1, "", 0.5, rows["at"][0]), ("tree", 9, "auc", 0.5, rows["at"][0])]))
        assert (done.inserted, done.quarantined) == (1, 3) and len(store.read_quarantine("model_metrics")) == 3
        with pytest.raises(DataError, match="time zone"):
            store.write_metrics(metrics().assign(at=pd.Timestamp("2024-05-01")))

    def test_facts(self, store, reopen):
        assert list(store.read_facts()) == list(FACTS) and store.read_facts().empty
        rows = facts()
        first = store.write_facts(rows)
        assert first.inserted == len(rows) and reopen().write_facts(rows.iloc[::-1]).unchanged == len(rows)
        same(reopen().read_facts(), rows)
        same(store.read_facts(["A"], ["eps"]), rows[(rows.symbol == "A") & (rows.name == "eps")].reset_index(drop=True))
        for moment in ("2023-04-30", "2023-05-10", "2023-06-10"):
            published = rows[rows.published <= pd.Timestamp(moment, tz="UTC")].reset_index(drop=True)
            same(store.read_facts(as_of=moment), published)
        before = pd.Timestamp.now("UTC")
        mended = rows.assign(value=rows.value.where(rows.name != "cpi", 305.5))
        assert store.write_facts(mended).revised == (rows.name == "cpi").sum() == 1
        store.compact()
        same(reopen().read_facts(), mended)
        same(store.read_facts(as_of=before), rows)
        same(store.read_facts(as_of="2023-06-10"), rows[rows.published <= pd.Timestamp("2023-06-10", tz="UTC")].reset_index(drop=True))

    def test_bad_facts_are_refused_whole(self, store):
        for change, said in [
                (dict(value=np.nan), "finite"), (dict(value=np.inf), "finite"), (dict(name="Net Income"), "lower-case"), (dict(symbol=""), "symbol"),
                (dict(value="1.5"), "float64"), (dict(published=pd.Timestamp("2023-05-01")), "published"),
                (dict(period_end=pd.Series(pd.NaT, index=range(5), dtype="datetime64[us]")), "period_end")]:
            with pytest.raises(DataError, match=said):
                store.write_facts(facts().assign(**change))
        assert store.read_facts().empty

    def test_features(self, store, reopen):
        assert store.read_features().empty and list(store.read_features()) == ["symbol", "timeframe", "ts", "known_at"]
        rows = features()
        first = store.write_features(rows, "code1")
        assert first.inserted == len(rows) and reopen().write_features(rows, "code1") == WriteResult(0, 0, len(rows), first.version)
        for opened in (store, reopen()):
            same(opened.read_features(timeframe="1m"), rows)
            same(opened.read_features("B", "1m", ["rsi_14"], "code1"),
                 rows[rows.symbol == "B"].reset_index(drop=True)[["symbol", "timeframe", "ts", "known_at", "rsi_14"]])
            same(opened.read_features("A", "1m", latest=True), rows[rows.symbol == "A"].tail(1).reset_index(drop=True))
        assert store.read_features(timeframe="1d").empty
        assert len(store.read_features(timeframe="1m", start="2024-05-01 00:02", end="2024-05-01 00:03")) == 4
        before = pd.Timestamp.now("UTC")
        assert store.write_features(rows.assign(sma_5=rows.sma_5 + (rows.symbol == "A")), "code1").revised == (rows.symbol == "A").sum()
        same(store.read_features(timeframe="1m", as_of=before), rows)
        assert len(store.read_features(timeframe="1m", as_of="2024-05-01 00:03")) == 6
        store.write_features(rows.assign(sma_5=9.0).rename(columns={"rsi_14": "rsi_7"}), "code2")
        assert (store.read_features(timeframe="1m", names=["sma_5"]).sma_5 == 9).all() and store.read_features(timeframe="1m", code="code1").sma_5.max() < 9
        store.compact()
        assert list(reopen().feature_sets().code) == ["code1", "code2"] and "rsi_14" in store.read_features(timeframe="1m", names="rsi_14")
        with pytest.raises(DataError, match="did you mean `rsi_7`"):
            store.read_features(timeframe="1m", names=["rsi_77"])
        with pytest.raises(DataError, match="features of one set"):
            store.read_features(timeframe="1m", names=["rsi_7", "rsi_14"])
        with pytest.raises(DataError, match="`code` must be"):
            store.read_features(code="code3")

    def test_labels_are_no_features(self, store):
        for name in ("fwd_ret_5", "fwd_ret_5_direction", "barrier_20_2_1_class", "meta_barrier_20_2_1", "triple_barrier", "y", "Y", "target", "TARGET",
                     "label", "my_label", "next_close", "outcome", "future_return"):
            with pytest.raises(DataError, match="without labels"):
                store.write_features(features().assign(**{name: 1.0}), "code1")
        assert store.read_features().empty and store.feature_sets().empty

    def test_bad_features(self, store):
        rows = features()
        for change, said in ((dict(ts=pd.Timestamp("2024-05-01")), "time zone"), (dict(sma_5="1.0"), "numbers"), (dict(recorded_at=1.0), "own columns"),
                             (dict(symbol=1), "text")):
            with pytest.raises(DataError, match=said):
                store.write_features(rows.assign(**change), "code1")
        for code in ("", None, 7):
            with pytest.raises(DataError, match="`code` must be"):
                store.write_features(rows, code)
        with pytest.raises(DataError, match="one row a key"):
            store.write_features(pd.concat([rows, rows]), "code1")
        soon = pd.Timestamp.now("UTC").as_unit("us") + HOUR
        odd = rows.copy()
        odd.loc[0, "sma_5"], odd.loc[1, "known_at"], odd.loc[2, "known_at"] = np.inf, soon, odd.ts[2]
        done = store.write_features(odd, "code1")
        assert (done.inserted, done.quarantined) == (len(rows) - 3, 3) and store.read_quarantine("features").reason.nunique() == 3

    def test_names_in_records_are_only_values(self, store, reopen):
        names = ["'; DROP TABLE mlfin.predictions; --", "A'B\"C", "%s", "{x}", "\\", "../../up", "NULL", "Ω", "a b", "$1", "a,b\nc"]
        one = signals(minutes=2)
        one = one[(one.symbol == "A") & (one.model == "tree") & (one.version == 1)]
        rows = as_predictions(pd.concat([one, *(one.assign(symbol=n) for n in names), *(one.assign(model=n) for n in names)]))
        rows = rows.sort_values(KEYS, ignore_index=True)
        assert store.write_predictions(rows).inserted == len(rows)
        same(reopen().read_predictions(), rows)
        store.write_metrics(pd.concat([metrics().assign(model=n, metric=n).drop_duplicates(["version", "at"]) for n in names]))
        store.write_facts(pd.concat([facts().assign(symbol=n).drop_duplicates(FACTS_KEY) for n in names], ignore_index=True))
        for n in names:
            assert set(store.read_predictions(n).symbol) == {n} and set(store.read_predictions(model=n).model) == {n}
            assert set(store.read_metrics(n, metric=n).metric) == {n} and set(store.read_facts(n).symbol) == {n}
        wide = features().assign(symbol=names[0]).drop_duplicates("ts", ignore_index=True)
        wide = wide.rename(columns={"sma_5": names[1]}).assign(**dict.fromkeys(names, 1.5))
        store.write_features(wide, names[0])
        store.compact()
        same(reopen().read_features(names[0], "1m", code=names[0]), wide.astype({"symbol": "str"}))
        same(reopen().read_predictions(), rows)

    def test_writers_of_records_at_once_lose_and_double_nothing(self, store, reopen):
        errors, rows = [], signals(minutes=5)
        store.write_predictions(rows.iloc[:1])

        def work(n):
            try:
                own = reopen()
                for i in range(n, 5):
                    own.write_predictions(rows[rows.ts.dt.minute == i])
                    own.write_features(features(minutes=i + 1), "code1")
                    if i % 4 == n:
                        own.fold()
            except Exception as e:  # noqa: BLE001 - a thread's error must reach the test
                errors.append(e)

        threads = [threading.Thread(target=work, args=(n,)) for n in (0, 0, 1)]
        for thread in threads:
            thread.start()
        while any(t.is_alive() for t in threads):
            assert not store.read_predictions().duplicated(KEYS).any()
        for thread in threads:
            thread.join()
        assert not errors
        same(store.read_predictions(), rows)
        same(store.read_features(timeframe="1m"), features(minutes=5))
        assert store.write_predictions(rows).unchanged == len(rows)
        same(store.read_predictions(as_of=pd.Timestamp.now("UTC")), rows)

    def test_many_rows_in_one_write(self, store, reopen):
        rows = signals(minutes=3000)
        assert store.write_predictions(rows.iloc[:10]).inserted == 10 and store.write_predictions(rows).inserted == len(rows) - 10
        same(reopen().read_predictions(), rows)
        half = rows.assign(threshold=rows.threshold.where(rows.index % 2 == 0, 0.75))
        assert store.write_predictions(half).revised == len(rows) // 2
        same(store.read_predictions(), half)

    def test_records_move_with_their_moments(self, pair):
        store, other = pair
        store.write_predictions(signals())
        store.write_metrics(metrics())
        store.write_facts(facts())
        store.write_features(features(), "code1")
        store.write_features(features().rename(columns={"sma_5": "b c"}), "code2")
        moments = [None, "2023-06-10", pd.Timestamp.now("UTC")]
        for n in (1, 2):  # some rows are revised once, some twice
            store.write_predictions(signals().iloc[n:9].assign(threshold=0.6 + n / 10))
            store.write_metrics(metrics().iloc[n:3].assign(value=n / 3))
            store.write_facts(facts().iloc[n:].assign(value=n / 7))
            store.write_features(features().iloc[n:].assign(sma_5=float(n)), "code1")
            moments.append(pd.Timestamp.now("UTC"))
        sets = store.record_sets()
        named = [s for s in sets if s[0] in ("facts", "predictions", "model_metrics", "features")]
        assert [s[0] for s in named] == ["facts", "predictions", "model_metrics", "features", "features"], sets
        assert sorted(named[3][2]) == ["rsi_14", "sma_5"] and named[3][1] == "code1", sets
        for what, code, names in named:
            rows = store.record_history(what, code, names)
            arrived = [*record_of(what, names).key, "recorded_at"]
            assert not rows.duplicated(arrived).any() and rows.duplicated(arrived[:-1]).any() == (code != "code2")
            assert store.record_months(what, code, names)["rows"].sum() == len(rows)
            mixed = rows.sample(frac=1, random_state=3)  # in any order, in any pieces, each any number of times
            for part in (mixed[: len(rows) // 2], mixed[len(rows) // 3:], rows):
                other.restore_records(part, what, code)
            assert other.restore_records(rows, what, code).unchanged == len(rows)
            same(other.record_history(what, code, names), rows)
            same(other.record_months(what, code, names), store.record_months(what, code, names))
            before = other.record_history(what, code, names)
            said = record_of(what, names).values[0]
            for wrong, words in ((rows.assign(**{said: rows[said] / 2 + 0.125}), "other values"), (rows.drop(columns="recorded_at"), "recorded_at"),
                                 (rows.assign(known_at=rows.known_at + MINUTE), "other values"), (pd.concat([rows, rows]), "one row for each key"),
                                 (rows.assign(**{said: "x"}), "numbers|float64"),
                                 (rows.assign(recorded_at=rows.recorded_at.mask(rows.recorded_at.notna())), "one row")):
                with pytest.raises(DataError, match=words):
                    other.restore_records(wrong, what, code)
            same(other.record_history(what, code, names), before)
        for at in moments[:4]:
            same(other.read_predictions(as_of=at), store.read_predictions(as_of=at))
            same(other.read_metrics(as_of=at), store.read_metrics(as_of=at))
            same(other.read_facts(as_of=at), store.read_facts(as_of=at))
            for code in ("code1", "code2"):
                same(other.read_features(timeframe="1m", code=code, as_of=at), store.read_features(timeframe="1m", code=code, as_of=at))
        same(other.feature_sets(), store.feature_sets())
        a = store.record_history("predictions", where={"symbol": ["A"], "timeframe": ["1m"]}, start=START + MINUTE, end=START + 2 * MINUTE)
        assert set(a.symbol) == {"A"} and set(a.ts) == {START + MINUTE, START + 2 * MINUTE}
        assert other.write_predictions(signals().assign(threshold=0.9)).revised == store.write_predictions(signals().assign(threshold=0.9)).revised > 0
        for ask in (lambda: store.record_history("prices"), lambda: store.record_history("features", "code9"), lambda: other.restore_records(rows, "prices")):
            with pytest.raises(DataError, match="`(what|code)`"):
                ask()
        with pytest.raises(DataError, match="without labels"):
            other.restore_records(rows.assign(y=1.0), "features", "code1")
