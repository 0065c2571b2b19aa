"""Coverage and flags: light whatever the size, honest about holes, still drawn when there is nothing to
mark."""

import json

import numpy as np
import pandas as pd
import pytest

from mlfin.charts.figures import figure_json
from mlfin.core.errors import DataError
from mlfin.charts.quality_charts import completeness_chart, flagged_chart


def bars(n=45_031, symbols=("BTC",), freq="min"):
    ts = pd.date_range("2021-12-31", periods=n, freq=freq, tz="UTC").as_unit("us")
    close = 40_000 * np.exp(np.random.default_rng(0).normal(0, 0.0008, n).cumsum())
    return pd.concat([pd.DataFrame(dict(symbol=s, timeframe="1m", ts=ts, open=close, high=close, low=close,
                                        close=close)) for s in symbols], ignore_index=True)


def days(symbols, n, expected=1440):
    when = pd.date_range("2000-01-01", periods=n, freq="D").as_unit("us")
    return pd.DataFrame(dict(symbol=np.repeat(symbols, n), session=np.tile(when, len(symbols)),
                             present=expected, expected=expected))


def flags(frame, **checks):
    return pd.concat([frame.iloc[at][["symbol", "ts"]].assign(check=c) for c, at in checks.items()],
                     ignore_index=True)


def size(figure):
    return len(json.dumps(figure_json(figure)))


def test_a_month_of_minutes_is_light():
    frame = bars()
    figure = flagged_chart(
        frame, flags(frame, stale=slice(0, 30_000), outliers=slice(100, 102), decimal=slice(5_000, 5_326)))
    assert size(figure) < 200_000
    assert [t.name for t in figure.data[1:]] == ["decimal: 326 (200 drawn)", "outliers: 2",
                                                 "stale: 30,000 (200 drawn)"]
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    assert "30,328 flags" in figure.layout.title.subtitle.text


def test_five_hundred_symbols_are_light():
    names = [f"S{i:03d}" for i in range(500)]
    frame = bars(200, names, "D")
    figure = flagged_chart(frame, flags(frame[frame.symbol == "S321"], outliers=slice(0, 3)))
    assert size(figure) < 150_000 and "S321" in {t.name for t in figure.data}
    assert "8 of 500 symbols" in figure.layout.title.subtitle.text
    for n in (1, 200, 500):
        figure = completeness_chart(days(names, n))
        assert size(figure) < 200_000 and figure.data[0].z.shape[0] == 500 and figure.layout.height <= 900


@pytest.mark.parametrize("n, unit", [(1, "day"), (45, "day"), (400, "day"), (401, "week"), (3_000, "month"),
                                     (15_000, "quarter"), (50_000, "year")])
def test_days_are_joined_until_they_fit(n, unit):
    table = days(("A", "B"), n)
    table.loc[n // 2, "present"] -= 1
    figure = completeness_chart(table)
    assert f"by {unit};" in figure.layout.title.subtitle.text
    assert figure.layout.xaxis.title.text.startswith(unit.capitalize())
    z = figure.data[0].z
    assert (z < 100).sum() == 1 and (z[~np.isnan(z)] <= 100).all()  # one minute in many years is seen


def test_no_cell_where_nothing_is_expected():
    table = pd.concat([days(("A",), 10), days(("B",), 10).tail(3)], ignore_index=True)
    z = completeness_chart(table).data[0].z
    assert np.isnan(z[1]).sum() == 7 and not np.isnan(z[0]).any()


def test_nothing_to_mark():
    frame = bars(500)
    none = pd.DataFrame({"check": [], "symbol": [], "ts": pd.Series([], dtype=frame.ts.dtype)})
    assert len(flagged_chart(frame, none).data) == 1
    assert "nothing was flagged" in flagged_chart(frame, none).layout.title.subtitle.text
    odd = pd.DataFrame({"check": ["x", "x"], "symbol": ["ZZZ", "BTC"],
                        "ts": pd.Series([frame.ts[3], pd.NaT], dtype=frame.ts.dtype)})
    assert len(flagged_chart(frame, odd).data) == 1


def test_a_mark_stands_at_the_last_good_close():
    frame = bars(300)
    marks = flagged_chart(frame.drop(index=[7, 8, 9]), flags(frame, decimal=[0, 8, 299])).data[1]
    assert list(marks.y) == [frame.close[0], frame.close[6], frame.close[299]]
    early = frame.assign(ts=frame.ts - pd.Timedelta(days=1)).head(1)
    # before the first bar there is no price
    assert len(flagged_chart(frame, flags(early, decimal=[0])).data[1].x) == 0


def test_the_same_frame_gives_the_same_bytes():
    frame = bars(3_000)
    one, two = (json.dumps(figure_json(flagged_chart(frame, flags(frame, stale=slice(0, 900)))))
                for _ in range(2))
    assert one == two


def test_what_cannot_be_drawn_is_refused():
    frame = bars(5)
    with pytest.raises(DataError, match="a frame with rows"):
        completeness_chart(days(("A",), 0))
    with pytest.raises(DataError, match="column `expected`"):
        completeness_chart(days(("A",), 3).drop(columns="expected"))
    with pytest.raises(DataError, match="column `check`"):
        flagged_chart(frame, frame)
    with pytest.raises(DataError, match="a frame with rows"):
        flagged_chart(frame.head(0), flags(frame, x=[0]).head(0))
