"""What others read of a warehouse's records: views with the names they expect, and no label among
features."""
import itertools

import numpy as np
import pandas as pd
import pytest

from mlfin.core.errors import DataError
from mlfin.market.actions import as_actions
from mlfin.market.bars import as_bars
from mlfin.store.records import as_predictions, is_label_name
from mlfin.warehouse.warehouse import Warehouse

_numbers = itertools.count()
MINUTE = pd.Timedelta(minutes=1)


@pytest.fixture(scope="module")
def filled(databases):
    """A warehouse with minute bars of two symbols, a split, features, and predictions."""
    store = Warehouse(databases())
    at = pd.date_range("2024-05-01 10:00", periods=8, freq="min", tz="UTC").as_unit("us")
    close = np.array([10.0, 11, 10, 12, 6, 6, 7, 8])
    bars = [pd.DataFrame(dict(symbol=s, timeframe="1m", ts=at, known_at=at + MINUTE, open=close,
                              high=close + 1, low=close - 1, close=close * k / 3, volume=5.0,
                              spread=0.5, trades=t)) for s, k, t in (("A", 1.0, 3.0), ("B", 1.01, np.nan))]
    store.write(as_bars(pd.concat(bars).assign(high=100.0, low=0.5)))
    store.write_actions(as_actions([("A", at[4], "split", 2.0, at[4], "test")]))
    wide = pd.concat(bars, ignore_index=True)[["symbol", "timeframe", "ts", "known_at", "close"]].rename(
        columns={"close": "sma_2"}).assign(rsi_2=np.nan)
    store.write_features(wide, "code1")
    store.write_features(wide[wide.symbol == "A"].assign(timeframe="1d", ts=wide.ts - pd.Timedelta(days=1)),
                         "code1")
    store.write_predictions(as_predictions(
        [("A", "1m", at[7], "tree", 3, 0.6, None, 0.5, 1, at[7] + MINUTE),
         ("A", "1m", at[7], "line", 1, None, 0.1, None, None, at[7] + MINUTE)]))
    return store


def view(store, name, order="symbol, ts"):
    with store.server.transaction() as cursor:
        cursor.execute(f"SELECT * FROM mlfin.{name} ORDER BY {order}")
        return pd.DataFrame(cursor.fetchall(), columns=[c.name for c in cursor.description])


def test_market_data_has_the_names_of_terminals(filled):
    found = view(filled, "market_data", "symbol, time")
    assert list(found) == ["symbol", "timeframe", "time", "open", "high", "low", "close", "tick_volume",
                           "spread", "real_volume", "known_at"]
    assert list(found.close) == list(filled.read(timeframe="1m").close)
    assert list(found.tick_volume.unique()) == [3, 5]


def test_the_feature_view_has_the_stored_values_and_no_label(filled):
    found = view(filled, "features_m1")
    stored = filled.read_features(timeframe="1m")
    assert not [c for c in found if is_label_name(c)]
    assert not [n for f in found.features for n in f if is_label_name(n)]
    assert len(found) == len(stored) == 16 and set(found.timeframe) == {"1m"}
    assert len(view(filled, "feature_rows")) == 24
    assert [f["sma_2"] for f in found.features] == list(stored.sma_2)
    assert all(f["rsi_2"] is None for f in found.features)


def test_the_training_view_joins_what_only_later_bars_say(filled):
    found = view(filled, "trainset_m1")
    labels = [c for c in found if c.startswith("label")]
    assert labels == ["label_next_return", "label_next_up", "label_known_at"]
    assert [c for c in found if is_label_name(c)] == labels
    bars = filled.read(timeframe="1m").set_index(["symbol", "ts"])
    # of sixteen: neither has a next bar after the last one, and a split lies before the next close of one
    assert len(found) == 13
    for row in found.itertuples():
        own = bars.loc[row.symbol]
        later = own[own.index > row.ts].iloc[0]
        assert row.label_next_return == pytest.approx(later.close / own.close[row.ts] - 1, abs=1e-15)
        assert row.label_next_up == int(later.close > own.close[row.ts])
        assert row.label_known_at == later.known_at > row.known_at
    assert pd.Timestamp("2024-05-01 10:03", tz="UTC") not in set(found[found.symbol == "A"].ts)
    assert found.ts.max() == pd.Timestamp("2024-05-01 10:06", tz="UTC")


def test_signals_are_those_of_classifiers(filled):
    found = view(filled, "model_signals")
    assert list(found) == ["symbol", "timeframe", "ts", "model", "version", "probability", "threshold",
                           "label", "created_at"]
    assert found.drop(columns=["ts", "created_at"]).values.tolist() == [["A", "1m", "tree", 3, 0.6, 0.5, 1]]


def test_the_table_itself_refuses_a_label_whoever_writes(filled):
    for name in ("fwd_ret_5", "Target", "meta_barrier_20_2_1_class", "y", "my_label", "next_close"):
        assert is_label_name(name)
        with pytest.raises(DataError, match="no_labels"), filled.server.transaction("adds") as cursor:
            cursor.execute("INSERT INTO mlfin.feature_sets (code, columns) VALUES ('x', %s)",
                           (["sma_5", name, "rsi_14"],))
    with filled.server.transaction("adds") as cursor:
        cursor.execute("INSERT INTO mlfin.feature_sets (code, columns) VALUES ('x', %s)",
                       (["yield_2y", "labelled", "sma_5"],))
        cursor.execute("DELETE FROM mlfin.feature_sets WHERE code = 'x'")


def test_a_writer_adds_and_revises_records_and_a_reader_only_reads(databases):
    url = databases()
    owner = Warehouse(url)
    owner.make()
    number = next(_numbers)
    names = {k: f"{k}{number}" for k in ("writer", "reader")}
    owner.grant(writer=names["writer"], reader=names["reader"], prefix=f"p{number}")
    as_user = {k: url.replace("postgresql://" + url.split("://")[1].split("@")[0], f"postgresql://{n}")
               for k, n in names.items()}
    writer, reader = Warehouse(as_user["writer"]), Warehouse(as_user["reader"])
    at = pd.Timestamp("2031-05-01", tz="UTC") - pd.Timedelta(days=3650)
    rows = as_predictions([("A", "1m", at, "tree", 1, 0.5, None, 0.5, 1, at + MINUTE)])
    features = rows[["symbol", "timeframe", "ts"]].assign(known_at=at + MINUTE, sma_5=1.0)
    assert writer.write_predictions(rows).inserted == writer.write_features(features, "c").inserted == 1
    assert (writer.write_predictions(rows.assign(probability=0.7)).revised
            == writer.write_features(features.assign(sma_5=2.0), "c").revised == 1)
    assert reader.read_predictions().probability[0] == 0.7
    assert reader.read_features(timeframe="1m").sma_5[0] == 2.0
    assert len(view(reader, "model_signals")) == len(view(reader, "features_m1")) == 1
    for write in (lambda: reader.write_predictions(rows),
                  lambda: reader.write_features(features.assign(sma_5=3.0), "d")):
        with pytest.raises(DataError, match="could not be written"):
            write()
    assert len(owner.read_predictions()) == 1


def test_a_warehouse_of_the_first_revision_is_brought_up_to_date(databases, make, monkeypatch):
    from mlfin.warehouse import migrations

    store = Warehouse(databases())
    first = [r for r in migrations.revisions() if r == "0001"]
    import mlfin.warehouse.upkeep as module

    monkeypatch.setattr(migrations, "revisions", lambda folder=None: first)
    monkeypatch.setattr(module, "revisions", lambda folder=None: first)
    store.write(make("A", end="2023-01-05", start="2022-12-28"))
    monkeypatch.undo()
    again = Warehouse(store.url)
    with pytest.raises(DataError, match="migrate"):
        again.read()
    assert again.migrate()[0] == "0002"
    assert len(again.read("A")) == 9
    at = pd.Timestamp("2022-12-30", tz="UTC")
    assert again.write_predictions(as_predictions([("A", "1d", at, "m", 1, 0.5, None, None, None,
                                                    at + pd.Timedelta(days=1))])).inserted == 1


def test_a_feature_store_keeps_the_warehouses_features_filled(databases, make, tmp_path, monkeypatch):
    from mlfin.feature_store.feature_store import FeatureStore, publish_features

    store, specs = Warehouse(databases()), ["sma_5", "rsi_14", "bbands_20_2"]
    bars = as_bars(pd.concat([make("A"), make("B", seed=1)]))
    store.write(bars[bars.ts < "2024-03-20"].reset_index(drop=True))
    with pytest.raises(DataError, match="none of its own"):
        FeatureStore(store)
    features = FeatureStore(store, tmp_path)
    features.update(specs)
    pd.testing.assert_frame_equal(store.read_features(), features.read(specs), check_exact=True)
    store.write(bars.assign(close=bars.close.where(bars.ts != "2024-03-10", bars.close * 1.001)))
    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "write_features",
                      lambda *a: (_ for _ in ()).throw(DataError("the server is gone")))
        with pytest.raises(DataError, match="gone"):
            features.update(specs)
    assert len(store.read_features()) < len(bars)
    before = pd.Timestamp.now("UTC")
    FeatureStore(store, tmp_path).update(specs)
    stored, now = store.read_features(), features.read(specs)
    pd.testing.assert_frame_equal(stored.drop(columns="known_at"),
                                  now.drop(columns="known_at"), check_exact=True)
    late = stored.known_at > before  # a revised row is known to the store's readers when it arrives
    assert late.any() and (stored.known_at[~late] == now.known_at[~late]).all()
    assert (stored.known_at[late] > now.known_at[late]).all()
    pd.testing.assert_frame_equal(store.read_features(latest=True), features.latest(specs), check_exact=True)
    version = store.records.version()
    FeatureStore(store, tmp_path).update(specs)
    assert store.records.version() == version and len(store.feature_sets()) == 1
    assert publish_features(store, features.read(["rsi_14"]), ["rsi_14"], "default").inserted == len(bars)
    pd.testing.assert_frame_equal(store.read_features(code=store.feature_sets().code[1]),
                                  features.read(["rsi_14"]), check_exact=True)
    assert publish_features(store, features.read(["rsi_14"]), ["rsi_14"], "default").unchanged == len(bars)
