"""What only the second of two datasets has is said."""

from types import SimpleNamespace

import pandas as pd

from scbert.benchmark.transfers import judge_transfers


def results(*lines):
    columns = ["dataset", "protocol", "task", "query_only_types"]
    return SimpleNamespace(rooms=SimpleNamespace(tasks=pd.DataFrame(lines, columns=columns)))


def test_types_that_only_the_query_has_are_said_once_for_all_seeds():
    pair = ["a_to_b", "across_datasets", "across_datasets-all-0", "T cell, unassigned"]
    all_known = ["b_to_a", "across_datasets", "across_datasets-all-0", ""]
    within = ["a", "new_type", "new_type-all-0", "B cell"]
    found = judge_transfers(results(pair, pair, all_known, within))
    assert found == [
        "a to b: types that only the query has: T cell, unassigned. No method can name them: "
        "their cells are in no score but novelty.",
        "b to a: all types of the query are learned.",
    ]
    assert judge_transfers(results(within)) == []
