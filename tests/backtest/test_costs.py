"""The cost model: limits, names, its place in a trial's name."""

import json
from dataclasses import fields

import pytest

from mlfin.backtest.costs import Costs, as_costs
from mlfin.core.errors import ParameterError


@pytest.mark.parametrize("bad", [
    dict(fill="last"), dict(fill=None), dict(delay=0), dict(delay=1.5), dict(delay=True), dict(fee_bps=-1),
    dict(fee_bps=10_000),
    dict(fee_bps="1"), dict(fee_bps=float("nan")), dict(fee_bps=True), dict(fee_per_share=-0.01),
    dict(fee_min=float("inf")), dict(fee_min=-1),
    dict(use_spread=1), dict(spread_bps=-1), dict(slippage_bps=None), dict(slippage_vol=-0.1),
    dict(impact=float("inf")), dict(borrow_bps=-5),
    dict(funding_bps=10_000), dict(lot=-1), dict(participation=0), dict(participation=1.01),
    dict(participation=True), dict(participation="all"),
    dict(delisting_return=-1.01), dict(delisting_return=float("nan")), dict(delisting_return="-1")], ids=str)
def test_what_is_impossible_is_named(bad):
    with pytest.raises(ParameterError, match=f"`?{next(iter(bad))}`?"):
        Costs(**bad)


@pytest.mark.parametrize("good", [dict(participation=1), dict(delisting_return=-1),
                                  dict(fee_bps=0, slippage_bps=0), dict(delay=30), dict(lot=0.001)], ids=str)
def test_the_limits_themselves_are_fine(good):
    for name, value in good.items(): assert getattr(Costs(**good), name) == value


def test_a_misspelt_fill_is_suggested():
    with pytest.raises(ParameterError, match="did you mean `close`"): Costs(fill="closed")


def test_spec_names_fee_and_slippage_and_what_differs():
    assert Costs().spec() == {"fee_bps": 1.0, "slippage_bps": 2.0}
    other = dict(fill="vwap", delay=2, fee_bps=0, fee_per_share=0.005, fee_min=1, use_spread=True,
                 spread_bps=3, slippage_bps=0, slippage_vol=0.1,
                 impact=0.3, borrow_bps=50, funding_bps=300, lot=100, participation=0.1,
                 delisting_return=-0.3)
    assert set(other) == {f.name for f in fields(Costs)}
    spec = Costs(**other).spec()
    assert spec == other and json.loads(json.dumps(spec)) == spec
    assert all(isinstance(spec[name], float) for name in other if name not in ("fill", "delay", "use_spread"))
    for name, value in other.items():
        assert Costs(**{name: value}).spec() == {"fee_bps": 1.0, "slippage_bps": 2.0, name: value}


def test_equal_costs_have_equal_specs_and_come_back_from_them():
    assert Costs(fee_bps=5).spec() == Costs(fee_bps=5.0).spec()
    some = Costs(fee_bps=5, participation=0.2, fill="close")
    assert as_costs(some.spec()) == some and as_costs(None) == Costs() and as_costs(some) is some


@pytest.mark.parametrize("unknown, said", [("almgren", "an unknown cost model"),
                                           (3.0, "an unknown cost model"),
                                           (["fee_bps"], "an unknown cost model"),
                                           ({"fees": 1}, "did you mean"), ({"quux": 1}, "quux")], ids=str)
def test_an_unknown_cost_model_is_an_error(unknown, said):
    with pytest.raises(ParameterError, match=said): as_costs(unknown)


def test_equal_costs_are_one_trial_whatever_the_type_of_their_numbers():
    whole, real = (Costs(participation=kind(1), delisting_return=kind(-1), lot=kind(2)).spec()
                   for kind in (int, float))
    assert [repr(v) for v in whole.values()] == [repr(v) for v in real.values()]
    assert Costs(delay=2, use_spread=True).spec() == {"delay": 2, "fee_bps": 1.0, "use_spread": True,
                                                      "slippage_bps": 2.0}
