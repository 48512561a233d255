"""Failures of the benchmark, one line for each method and reason."""

from types import SimpleNamespace

import pandas as pd
import pytest

from scbert.benchmark.failures import failures_table, kind_of_reason, without_places

WORK = "results/benchmark/kang/seed2021/answers/encoder/tmp3gj"
NO_PART = (
    "ValueError: {}/.model.work/data/few_labels-{}.tsv has no cell of part 'validation'. Do so."
)


def results(*lines):
    """Lines of (dataset, protocol, level, seed, method, exit, reason)."""
    columns = ["dataset", "protocol", "level", "seed", "method", "exit", "reason"]
    table = pd.DataFrame(lines, columns=columns).assign(metric="macro_f1")
    return SimpleNamespace(long=table, title=str.capitalize)


def test_one_reason_is_one_line_whatever_its_files_folds_and_numbers_are():
    one, other = NO_PART.format(WORK, "1_per_type-0"), NO_PART.format("/tmp/x9", "5_per_type-0")
    found = failures_table(
        results(
            ("kang", "few_labels", "1_per_type", 1, "encoder", 1, one),
            ("kang", "few_labels", "1_per_type", 2, "encoder", 1, one.replace("3gj", "z0z")),
            ("panc8", "few_labels", "5_per_type", 1, "encoder", 1, other),
            ("panc8", "within_dataset", "all", 1, "encoder", 1, f"fold 3: {other}"),
            ("panc8", "within_dataset", "all", 1, "other", 1, one),
            ("panc8", "within_dataset", "all", 1, "random", 0, ""),
            ("kang", "within_dataset", "all", 1, "encoder", -9, "ended by signal 9, as where"),
        )
    )
    shown = [[cell.text for cell in row] for row in found.rows]
    short = "ValueError: few_labels-1_per_type-0.tsv has no cell of part 'validation'. Do so."
    where = "Few labels (1 per type, 5 per type); Within a dataset (all)"
    assert shown == [
        ["Encoder", "4", where, "kang, panc8", short],
        ["Encoder", "1", "Within a dataset (all)", "kang", "ended by signal 9, as where"],
        ["Other", "1", "Within a dataset (all)", "panc8", short],
    ]
    assert [head.number for head in found.heads] == [False, True, False, False, False]


def test_nothing_failed():
    assert failures_table(results(("a", "within_dataset", "all", 1, "random", 0, ""))) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lacks 23 cells, such as 'AAA-1'", "lacks 4 cells, such as 'd3_x'"),
        ("not done after 60 minutes", "not done after 5 minutes"),
        ("fold 0: MemoryError", "MemoryError"),
    ],
)
def test_reasons_of_a_kind(one, other):
    assert kind_of_reason(one) == kind_of_reason(other)


def test_reasons_of_another_kind_and_what_is_no_path():
    assert kind_of_reason("KeyError: CD3E") != kind_of_reason("MemoryError")
    assert without_places("needs 1 / 2 of https://a.org/b/c.html") == "needs 1 / 2 of c.html"
