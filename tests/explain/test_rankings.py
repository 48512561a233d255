"""Rankings of genes, overlaps and the deletion test, on numbers that can be checked by hand."""

from math import comb

import numpy as np
import pandas as pd
import pytest

from scbert.explain.deletion import (
    falls,
    genes_to_remove,
    halves,
    judge_deletions,
    matched_genes,
    plan_removals,
    sentence,
    verdicts,
)
from scbert.explain.enrichment import count_found, enrichment, enrichment_of_types, markers_of_types
from scbert.explain.rankings import (
    considered_genes,
    means_where_given,
    rank_genes,
    rank_types,
    table_of_genes,
    type_means,
    z_across_types,
)

SYMBOLS = np.array([f"G{number}" for number in range(10)])


@pytest.fixture
def settings(config, toy):
    return toy.change(config.explain, deletions=(1, 2), random_draws=2, bootstrap_samples=200)


def test_z_across_types_is_the_distance_from_the_mean_in_deviations():
    """1, 2 and 6: mean 3, squares 4 + 1 + 9 = 14 over 3 types."""
    z = z_across_types(np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]]))
    assert z[:, 0] == pytest.approx(np.array([-2, -1, 3]) / np.sqrt(14 / 3))
    assert not z[:, 1].any()


def test_type_means_are_of_the_types_own_cells():
    values = np.array([[1.0, 0.0], [3.0, 4.0], [5.0, 8.0]])
    found = type_means(values, np.array([0, 1, 0]), 2)
    assert found.tolist() == [[3.0, 4.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match="type 2 of 3 has no cell"):
        type_means(values, np.array([0, 1, 0]), 3)


def test_means_where_given_leaves_out_cells_without_a_value():
    values = np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 0.0]])
    found = means_where_given(values, values > 0, np.zeros(3, dtype=int), 1, neutral=1.0)
    assert found.tolist() == [[3.0, 1.0]]


def test_equal_attention_prefers_no_gene_however_many_cells_express_it():
    given = np.array([[1, 1], [1, 0], [0, 1], [0, 1]], dtype=bool)
    code = np.array([0, 0, 1, 1])
    mean = means_where_given(given.astype(float), given, code, 2, neutral=1.0)
    assert not z_across_types(mean).any()


def test_rank_genes_ranks_only_what_is_considered():
    by = np.array([[0.5, 3.0, 0.5, 9.0]])
    assert rank_genes(by, np.array([[True, True, True, False]])).tolist() == [[2, 1, 3, 0]]


def test_considered_genes_are_expressed_by_enough_cells():
    bins = np.array([[1, 0], [2, 0], [0, 0], [1, 3]], dtype=np.uint8)
    found = considered_genes(bins, np.zeros(4, dtype=int), 1, min_expressed=0.5)
    assert found.tolist() == [[True, False]]


def test_expression_is_ranked_by_its_distance_from_the_other_types():
    found = rank_types(
        "expression", np.array([[4.0, 9.0], [1.0, 8.0], [3.0, 8.0]]), np.ones((3, 2))
    )
    assert found.score[0].tolist() == [2.0, 1.0]
    assert found.top(0, 1).tolist() == [0]


def test_enrichment_is_the_hypergeometric_probability():
    """Of 8 genes 3 are in the set; of 4 at the top, 2 or more of them: 1 - P(0) - P(1)."""
    table = enrichment([1, 2, 5, 6], range(8), SYMBOLS, {"set": ["G2", "G5", "G7", "G9", "X"]})
    row = table.iloc[0]
    assert (row.set_genes, row.top_genes, row.overlap, row.genes) == (3, 4, 2, "G2 G5")
    by_hand = (comb(3, 2) * comb(5, 2) + comb(3, 3) * comb(5, 1)) / comb(8, 4)
    assert row.p == pytest.approx(by_hand)


def test_a_set_without_a_gene_of_the_universe_is_left_out():
    assert enrichment([1], [1, 2], SYMBOLS, {"set": ["G9"]}).empty


def test_adjusted_p_is_that_of_benjamini_and_hochberg():
    """Sorted p times n over rank, made monotone from the largest down."""
    ranking = rank_types(
        "gradients", np.array([np.arange(10.0), -np.arange(10.0)]), np.ones((2, 10))
    )
    sets = {"high": ["G9", "G8"], "low": ["G0", "G1"], "mixed": ["G9", "G4"]}
    table = enrichment_of_types(ranking, ["A", "B"], SYMBOLS, sets, n_top=3)
    order = np.argsort(table.p.to_numpy(), kind="stable")
    scaled = table.p.to_numpy()[order] * len(table) / np.arange(1, len(table) + 1)
    expected = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    assert table.adjusted_p.to_numpy()[order] == pytest.approx(expected)
    assert set(table.method) == {"gradients"}


def test_markers_of_types_keeps_the_own_type_and_the_best():
    table = pd.DataFrame(
        {
            "method": "gradients",
            "cell_type": ["B", "B", "T", "T", "T"],
            "gene_set": ["B cells", "NK cells", "B cells", "T cells", "NK cells"],
            "p": [0.2, 0.1, 0.03, 0.5, 0.03],
            "adjusted_p": [0.25, 0.2, 0.1, 0.5, 0.1],
        }
    )
    found = markers_of_types(table, {"B": "B cells"}, 0.2)
    rows = found[["cell_type", "gene_set", "matched_by"]].to_numpy().tolist()
    assert rows == [["B", "B cells", "name"], ["B", "NK cells", "best"], ["T", "B cells", "best"]]


def test_the_best_of_noise_is_no_finding():
    """Something is always best; PanglaoDB's "Alpha cells" are one gene of a query's universe."""
    table = pd.DataFrame(
        {
            "method": "attention",
            "cell_type": ["NK", "NK"],
            "gene_set": ["NK cells", "Alpha cells"],
            "p": [0.4, 0.06],
            "adjusted_p": [1.0, 1.0],
        }
    )
    found = markers_of_types(table, {"NK": "NK cells"}, 0.05)
    assert found.gene_set.tolist() == ["NK cells"]


def test_count_found_counts_types_by_their_own_and_by_any_markers():
    markers = pd.DataFrame(
        [
            ("gradients", "B", "B cells", "name", 1e-9),
            ("gradients", "B", "B cells naive", "best", 1e-12),
            ("gradients", "T", "T cells", "name", 0.3),
            ("gradients", "T", "NK cells", "best", 0.01),
            ("attention", "B", "B cells", "name", 0.9),
            ("attention", "T", "T cells", "name", 1.0),
        ],
        columns=["method", "cell_type", "gene_set", "matched_by", "adjusted_p"],
    )
    assert count_found(markers, 3, 0.05).to_numpy().tolist() == [
        ["gradients", 1, 2, 2, 3],
        ["attention", 0, 2, 0, 3],
    ]


def test_table_of_genes_has_a_row_for_each_ranked_gene():
    considered = np.array([[True, False, True], [False, True, False]])
    scores = np.array([[1.0, 2.0, 5.0], [2.0, 4.0, 1.0]])
    rankings = [rank_types(name, scores, considered) for name in ("gradients", "expression")]
    table = table_of_genes(rankings, ["A", "B"], SYMBOLS[:3])
    assert table.cell_type.tolist() == ["A", "A", "B"]
    assert table.gene.tolist() == ["G2", "G0", "G1"]
    assert table.expression_rank.tolist() == [1, 2, 1]
    assert table.expression_score.tolist() == [4.0, -1.0, 2.0]


def test_halves_divides_each_type():
    assert halves(np.array([0, 0, 1, 0, 1])).tolist() == [0, 1, 0, 0, 1]


def test_genes_to_remove_are_the_best_that_the_cell_expresses():
    rank = np.array([3, 0, 1, 2, 4, 0])
    genes = np.array([0, 1, 3, 4])
    assert genes_to_remove(genes, rank, 2).tolist() == [3, 0]
    assert genes_to_remove(genes, rank, 3) is None  # two ranked others would be needed beside them
    assert genes_to_remove(np.array([1, 5]), rank, 1) is None


def test_matched_genes_are_others_of_the_same_bins():
    genes, bins = np.arange(8), np.array([1, 1, 1, 1, 5, 5, 3, 2])
    for seed in range(20):
        drawn = matched_genes(genes, bins, np.array([0, 4, 6]), np.random.default_rng(seed))
        assert len(set(drawn.tolist())) == 3
        assert not set(drawn.tolist()) & {0, 4, 6}
        assert bins[drawn].tolist()[:2] == [1, 5]
        assert bins[drawn[2]] in (2,)  # no other gene of bin 3: the next bin


def make_cells():
    """Eight cells of two types, each expressing all ten genes in bin 1."""
    cells = [(np.arange(10), np.ones(10, dtype=np.uint8)) for _ in range(8)]
    return cells, np.array([0, 1] * 4)


def judge(rank, matters, settings):
    """Judge a ranking of a model in which a cell loses 0.2 for each gene that matters to it."""
    cells, code = make_cells()
    control = np.array([np.array([3, 1, 2, *range(4, 11)]), np.array([*range(10, 3, -1), 2, 1, 3])])
    ranks = {
        (method, half): one
        for method, one in (("gradients", rank), ("expression", control))
        for half in (0, 1)
    }
    plan = plan_removals(cells, code, halves(code), ranks, settings)
    fall = np.array(
        [0.2 * len(set(genes.tolist()) & matters[code[cell]]) for cell, genes in
         zip(plan.cell, plan.genes, strict=True)]
    )  # fmt: skip
    return plan, judge_deletions(falls(plan, fall, [f"T{number}" for number in code]), settings)


def test_a_ranking_that_knows_what_matters_passes(settings):
    """The control has one of the two genes that matter second, the other third."""
    rank = np.array([np.arange(1, 11), np.arange(10, 0, -1)])
    plan, judged = judge(rank, [{0, 1}, {8, 9}], settings)
    assert len(plan) == 2 * 8 * 2 * (1 + 2)
    verdict = verdicts(judged)["gradients"]
    assert verdict.verdict == "passes"
    assert verdict.over_control == pytest.approx(0.3 - 0.2)
    assert verdict.top == pytest.approx(0.3)  # 0.2 for one gene, 0.4 for two
    assert verdict.random < 0.1
    assert verdict.cells == 8
    assert "x: passes. Removing" in sentence(verdict, "x", 0.95)
    assert verdicts(judged)["expression"].verdict == "control"
    assert set(judged.cell_type) == {"all", "T0", "T1"}
    assert set(judged.genes) == {"mean", "1", "2"}


def test_a_ranking_of_genes_that_do_not_matter_fails(settings):
    rank = np.array([np.arange(10, 0, -1), np.arange(1, 11)])
    _, judged = judge(rank, [{0, 1}, {8, 9}], settings)
    verdict = verdicts(judged)["gradients"]
    assert verdict.verdict == "fails"
    assert verdict.difference <= 0
    assert "FAILS the deletion test, for random genes" in sentence(verdict, "x", 0.95)


def test_better_than_random_but_no_better_than_the_control_fails(settings):
    """What a list made without the model finds as well, the model need not be asked for."""
    cells = {"cell": [0, 1, 2], "cell_type": "T", "k": 1, "random": 0.0}
    drops = [
        pd.DataFrame({"method": "attention", "top": [0.3, 0.2, 0.1]} | cells),
        pd.DataFrame({"method": "expression", "top": [0.5, 0.2, 0.2]} | cells),
    ]
    verdict = verdicts(judge_deletions(pd.concat(drops), settings))["attention"]
    assert verdict.low > 0
    assert verdict.over_control == pytest.approx(-0.1)
    assert (verdict.over_control_low, verdict.over_control_high) == pytest.approx((-0.2, 0.0))
    assert verdict.verdict == "fails"
    assert "FAILS the deletion test, for a list made without" in sentence(verdict, "x", 0.95)


def test_judge_deletions_compares_cell_by_cell(settings):
    drops = pd.DataFrame(
        {
            "cell": [0, 0, 1],
            "cell_type": "T",
            "k": [1, 2, 1],
            "top": [0.5, 0.7, 0.1],
            "random": [0.1, 0.1, 0.1],
        }
    )
    both = [drops.assign(method=method) for method in ("attention", "expression")]
    judged = judge_deletions(pd.concat(both), settings)
    mean = judged[(judged.cell_type == "all") & (judged.genes == "mean")].iloc[0]
    assert mean.difference == pytest.approx((0.5 + 0.0) / 2)
    assert (mean.low, mean.high) == pytest.approx((0.0, 0.5))
    assert mean.verdict == "fails"
    assert (mean.over_control_low, mean.over_control_high) == (0, 0)
    assert judged[judged.genes == "1"].iloc[0].cells == 2


def test_the_same_seed_draws_the_same_genes(settings):
    cells, code = make_cells()
    ranks = {("gradients", half): np.tile(np.arange(1, 11), (2, 1)) for half in (0, 1)}
    first, again = (plan_removals(cells, code, halves(code), ranks, settings) for _ in range(2))
    assert [one.tolist() for one in first.genes] == [one.tolist() for one in again.genes]
