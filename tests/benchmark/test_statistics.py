import numpy as np
import pandas as pd
import pytest

from scbert.benchmark.statistics import (
    chances,
    control_scaled,
    method_difference,
    paired_differences,
    rank_methods,
)
from scbert.benchmark.summary import MEANS, means_over_seeds, t_interval

DATASETS = [f"d{n}" for n in range(7)]


def lines(**columns):
    """Lines of the long table, of which all but the given columns are the same."""
    shared = {"dataset": "d0", "protocol": "within_dataset", "level": "all", "seed": 1}
    shared |= {"method": "ours", "metric": "macro_f1", "low": np.nan, "high": np.nan, "cells": 10}
    shared |= {"exit": 0, "reason": ""}
    return pd.DataFrame(shared | columns)


def scores(**methods):
    return pd.DataFrame(methods, index=DATASETS)


def test_t_interval_of_three_values():
    """The quantile of t with 2 degrees of freedom is 4.3027, the standard error 1 / sqrt(3)."""
    assert t_interval([1, 2, 3], 0.95) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert np.isnan(t_interval([1], 0.95)[1:]).all()


def test_a_mean_over_seeds_has_an_interval_if_each_seed_has_one_over_cells():
    table = lines(seed=[1, 2, 1], dataset=["d0", "d0", "d1"], value=[0.4, 0.6, 0.5])
    table.loc[2, ["low", "high"]] = 0.3, 0.7
    means = means_over_seeds(table, 0.95)
    assert means.interval.tolist() == ["", "cells"]
    assert means.value.tolist() == [0.5, 0.5]
    assert means.low.fillna(-1).tolist() == [-1, 0.3]
    assert tuple(means) == MEANS


def test_seeds_that_agree_do_not_hide_how_far_other_cells_would_differ():
    table = lines(seed=[1, 2], value=[0.7, 0.7], low=[0.5, 0.6], high=[0.8, 0.9])
    (mean,) = means_over_seeds(table, 0.95).to_dict("records")
    assert (mean["interval"], mean["low"]) == ("cells", pytest.approx(0.55))
    assert mean["high"] == pytest.approx(0.85)
    table["value"] = [0.6, 0.8]  # t of two seeds is wider
    (mean,) = means_over_seeds(table, 0.95).to_dict("records")
    assert (mean["interval"], mean["low"], mean["high"]) == ("seeds", 0, 1)


def test_a_failure_is_missing_and_never_zero():
    table = lines(seed=[1, 2], value=[0.8, np.nan], exit=[0, 9], reason=["", "no memory"])
    (mean,) = means_over_seeds(table, 0.95).to_dict("records")
    assert mean["value"] == 0.8
    assert (mean["seeds"], mean["failed_seeds"], mean["reason"]) == (1, 1, "no memory")
    table = lines(value=[np.nan], exit=[9], reason=["no memory"])
    assert means_over_seeds(table, 0.95)["value"].isna().all()


def test_control_scaled_is_0_for_random_and_1_for_perfect():
    table = lines(method=["ours", "perfect", "random"], value=[0.6, 1, 0.2])
    assert control_scaled(table).scaled.tolist() == pytest.approx([0.5, 1, 0])
    assert control_scaled(table[:2]).scaled.isna().all()


def test_paired_differences_are_averaged_over_levels_then_datasets():
    table = lines(dataset=["d0", "d0", "d1"], level=["1", "2", "1"], value=[0.1, 0.3, 0.4])
    (one,) = paired_differences(means_over_seeds(table, 0.95), "within_dataset", 0.95, 3)
    assert one.value == pytest.approx(0.3)
    assert (one.datasets, one.interval) == (2, "datasets")
    assert one.low < 0 < one.high  # two datasets say little
    assert one.side == "unclear"
    assert (one.compared, one.asked) == (3, 3)


def test_a_difference_says_of_how_many_tasks_it_is():
    table = pd.concat(
        [
            lines(method="whole", level=["1", "2"], value=[0.1, 0.3]),
            lines(method="failed_once", level=["2"], value=[0.3]),
        ]
    )
    found = paired_differences(means_over_seeds(table, 0.95), "within_dataset", 0.95, 3)
    assert {one.method: (one.compared, one.asked) for one in found} == {
        "whole": (2, 3),  # in the third the first method failed
        "failed_once": (1, 3),
    }


def test_method_difference_pairs_what_both_have():
    table = pd.concat(
        [
            lines(method="ours", seed=[1, 2, 3], value=[0.5, 0.6, 0.7]),
            lines(method="theirs", seed=[1, 2], value=[0.4, 0.5]),
        ]
    )
    one = method_difference(table, ("ours", "theirs"), "within_dataset", 0.95)
    assert one.value == pytest.approx(0.1)
    assert one.interval == ""  # the same cells with every seed: what others would give is open
    assert one.side == "unclear"
    assert method_difference(table, ("ours", "nobody"), "within_dataset", 0.95) is None


def test_ranks_of_a_constant_order():
    """Friedman's statistic is then n (k - 1) = 14, and p = exp(-7)."""
    base = np.linspace(0.5, 0.6, 7)
    ranking = rank_methods(scores(worst=base, best=base + 0.2, middle=base + 0.1))
    assert ranking.ranks.to_dict() == {"best": 1, "middle": 2, "worst": 3}
    assert ranking.friedman_p == pytest.approx(np.exp(-7))
    assert ranking.different.loc["best", "worst"] < 0.05
    assert not ranking.left_out


def test_too_few_datasets_are_not_ranked():
    base = np.linspace(0.5, 0.6, 7)
    table = scores(a=base, b=base + 0.1, c=base + 0.2)
    assert rank_methods(table[:5]) is None
    assert rank_methods(table[["a", "b"]]) is None
    assert rank_methods(scores(a=base, b=base, c=base)) is None  # all ranks are the same


def test_a_method_that_failed_too_often_is_left_out_of_the_ranks():
    base = np.linspace(0.5, 0.6, 7)
    gaps = base.copy()
    gaps[:3] = np.nan
    ranking = rank_methods(scores(a=base, b=base + 0.1, c=base + 0.2, gaps=gaps))
    assert ranking.left_out == ["gaps"]
    assert len(ranking.datasets) == 7
    gaps = base.copy()
    gaps[0] = np.nan  # six are left
    ranking = rank_methods(scores(a=base, b=base + 0.1, gaps=gaps))
    assert ranking.datasets == DATASETS[1:]


def test_chances_of_better_equal_and_worse():
    base = np.linspace(0.5, 0.6, 7)
    found = chances(scores(ours=base, worse=base - 0.1, same=base + 0.001), "ours")
    assert found["worse"] == pytest.approx((7 / 8, 1 / 8, 0))  # seven of eight
    assert found["same"] == pytest.approx((0, 1, 0))
    assert found == chances(scores(ours=base, worse=base - 0.1, same=base + 0.001), "ours")
    assert chances(scores(ours=base, worse=base - 0.1)[:5], "ours") is None
