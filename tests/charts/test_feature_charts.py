"""Figures about features: light with hundreds of columns, every column once, refusing what cannot be
drawn."""
import json

import numpy as np
import pandas as pd
import pytest

from mlfin.charts import feature_charts as charts
from mlfin.charts.figures import MIMETYPE
from mlfin.core.errors import DataError
from mlfin.features import diagnostics as d


def size(figure) -> int:
    return len(json.dumps(figure._repr_mimebundle_()[MIMETYPE]))


def described(width, rows=400, symbols=3, seed=0):
    "Frames of diagnostics of a number of columns."
    rng, parts = np.random.default_rng(seed), []
    ts = pd.date_range("2021-01-01", periods=rows, freq="D", tz="UTC").as_unit("us")
    for s in range(symbols):
        common = rng.normal(size=(rows, max(width // 5, 1)))
        x = common[:, rng.integers(0, common.shape[1], width)] + 0.3 * rng.normal(size=(rows, width))
        head = pd.DataFrame({"symbol": f"S{s}", "timeframe": "1d", "ts": ts,
                             "known_at": ts + pd.Timedelta("1D")})
        parts.append(head.join(pd.DataFrame(x, columns=[f"column_{i:03d}" for i in range(width)])))
    table = pd.concat(parts, ignore_index=True)
    ahead = table[["symbol", "ts"]].assign(ret=rng.normal(size=len(table)))
    rho = d.correlations(table)
    names = list(rho)
    seen = pd.DataFrame({"column": names, "rows": len(table), "warm_up": np.arange(width), "late": 0,
                         "gaps": np.arange(width)[::-1]})
    return {"coverage": seen, "distributions": d.distributions(table), "rho": rho,
            "clusters": d.correlation_clusters(rho),
            "ic": d.information_coefficient(table, {h: ahead for h in (1, 5, 20)})}


def figures(found):
    return [charts.missing_parts_chart(found["coverage"]), charts.spread_chart(found["distributions"]),
            charts.cluster_chart(found["rho"], found["clusters"]), charts.ic_chart(found["ic"])]


@pytest.mark.parametrize("width", [1, 12, 158, 450])
def test_figures_are_light_titled_and_of_a_height_that_can_be_read(width):
    drawn = figures(described(width))
    for figure in drawn:
        assert size(figure) <= 280_000 and figure.layout.height <= 1_600, (
            figure.layout.title.text, size(figure), figure.layout.height)
        assert figure.layout.title.text and figure.layout.title.subtitle.text
    assert sum(map(size, drawn)) <= 330_000


def test_what_is_left_out_is_said_and_the_rest_is_what_matters_most():
    found = described(60)
    seen, spread, clusters, ic = figures(found)
    assert "40 of 60 columns" in seen.layout.title.subtitle.text
    assert "heaviest tails" in spread.layout.title.subtitle.text
    heaviest = set(found["distributions"].nlargest(40, "kurtosis").column)
    assert set(spread.data[2].y) == heaviest
    best = (found["ic"].ic / found["ic"].std_error).abs().groupby(found["ic"].column).max().nlargest(30).index
    assert set(ic.layout.yaxis.ticktext) == set(best)
    assert list(clusters.data[0].x) == found["clusters"].sort_values("order").column.tolist()
    many = described(210)
    reps = many["clusters"].representative.unique()
    drawn = charts.cluster_chart(many["rho"], many["clusters"])
    shown = set(drawn.data[0].x)
    assert shown <= set(reps) and len(shown) == min(len(reps), 200)
    assert f"{len(shown)} representatives" in drawn.layout.title.subtitle.text


def test_frames_stand_around_whole_clusters():
    found = described(30)
    figure = charts.cluster_chart(found["rho"], found["clusters"])
    names, at = list(figure.data[0].x), found["clusters"].set_index("column").cluster
    framed = [names[int(s.x0 + 0.5):int(s.x1 + 0.5)] for s in figure.layout.shapes]
    assert (sorted(sorted(f) for f in framed)
            == sorted(sorted(at.index[at == n]) for n in at.unique() if (at == n).sum() > 1))
    assert all(s.x0 == s.y0 and s.x1 == s.y1 for s in figure.layout.shapes)


def test_values_stand_where_they_belong():
    found = described(5)
    ic = charts.ic_chart(found["ic"])
    first = found["ic"][found["ic"].horizon == 1]
    np.testing.assert_allclose(ic.data[0].x, first.ic)
    np.testing.assert_allclose(ic.data[0].error_x.array, 1.96 * first.std_error)
    assert [round(y) for y in ic.data[1].y] == [0, 1, 2, 3, 4]
    spread = charts.spread_chart(found["distributions"])
    one = found["distributions"].iloc[2]
    np.testing.assert_allclose(spread.data[0].x[6:8],
                               [(one.q01 - one["mean"]) / one["std"], (one.q99 - one["mean"]) / one["std"]])
    seen = charts.missing_parts_chart(found["coverage"])
    np.testing.assert_allclose(seen.data[2].x, 100 * np.arange(5)[::-1] / 1200)


def test_constant_and_unknown_values_are_drawn_as_such():
    found = described(3)
    rho = found["rho"].copy()
    rho.iloc[2], rho.iloc[:, 2] = np.nan, np.nan
    z = charts.cluster_chart(rho, d.correlation_clusters(rho)).data[0].z
    assert np.isnan(z).sum() == 5
    none = found["ic"].assign(std_error=np.nan)
    assert len(charts.ic_chart(none).layout.yaxis.ticktext) == 3
    flat = pd.concat([found["distributions"], found["distributions"].head(1).assign(column="flat", std=0.0)])
    assert "flat" not in charts.spread_chart(flat).data[2].y


def test_the_same_frames_give_the_same_bytes():
    assert ([json.dumps(f._repr_mimebundle_()) for f in figures(described(20))]
            == [json.dumps(f._repr_mimebundle_()) for f in figures(described(20))])


def test_refusals_name_what_is_missing():
    found = described(3)
    for call, words in [
        (lambda: charts.missing_parts_chart(found["coverage"].drop(columns="late")), "late"),
        (lambda: charts.missing_parts_chart(found["coverage"].head(0)), "rows"),
        (lambda: charts.spread_chart(found["distributions"].assign(std=0.0)), "not constant"),
        (lambda: charts.cluster_chart(found["rho"].iloc[:2, :2], found["clusters"]), "column_002"),
        (lambda: charts.ic_chart(found["ic"].drop(columns="ic")), "`ic`"),
    ]:
        with pytest.raises(DataError, match=words): call()
