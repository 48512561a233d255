"""Experts learned together, weighed by cells that they have not learned from, and asked."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from scbert.cells.learned_labels import labels_not_learned
from scbert.experts.chance import by_chance
from scbert.experts.combiner import Share, combine
from scbert.experts.logit_adjustment import rarity
from scbert.training.cell_batches import CellBatches
from scbert.training.committee import Committee, ask
from scbert.training.learn_committee import Reference, learn_committee
from tests.experts.test_experts import drawn, store_of, vectors_of

NAMES = ("logistic_regression", "discriminant", "encoder")


def hard(n_cells=180, seed=0):
    """Bins that tell three types apart in some of the cells only, and the types."""
    rng = np.random.default_rng(seed)
    label = np.arange(n_cells) % 3
    bins = rng.integers(0, 3, (n_cells, 20))
    for type_ in range(3):
        bins[:, type_] += rng.integers(0, 2, n_cells) * (label == type_)
    return bins, label


def reference(bins, label, batch=None, vectors=None):
    vectors = np.zeros((len(label), 0), dtype=np.float32) if vectors is None else vectors
    return Reference(store_of(bins), np.arange(len(label)), label, batch, vectors)


def noise(n_cells, width=4, seed=5):
    return np.random.default_rng(seed).normal(size=(n_cells, width))


def test_an_encoder_without_information_has_no_weight_and_is_not_asked():
    bins, label = hard()
    learned = learn_committee(NAMES, reference(bins, label, vectors=noise(180)), None, 0)
    shares = learned.committee.shares
    assert shares["encoder"].weight == 0
    assert not learned.committee.asks_encoder
    assert sum(share.weight for share in shares.values()) == pytest.approx(1)
    assert np.array_equal(learned.logits, combine(learned.each, learned.without))
    found = learned.summary()["out_of_fold"]["encoder_adds"]
    assert not found["kept"]
    assert found["log_loss_gain"]["low"] <= 0


def test_an_encoder_that_knows_more_has_a_weight_and_is_asked():
    bins, label = hard()
    learned = learn_committee(NAMES, reference(bins, label, vectors=vectors_of(label)), None, 0)
    assert learned.committee.asks_encoder
    found = learned.summary()["out_of_fold"]
    assert found["encoder_adds"]["kept"]
    assert found["encoder_adds"]["log_loss_gain"]["low"] > 0
    assert found["encoder_adds"]["macro_f1"] > 0.05
    assert found["macro_f1"] > 0.9


def test_own_logits_count_only_in_cells_the_network_has_not_learned_from():
    """It is sure and right in 60 cells it was validated on; of the others nothing is known."""
    bins, label = hard()
    held_out = np.arange(180) % 9 < 3
    own = np.where(held_out[:, None], 8.0 * np.eye(3)[label], -np.inf)
    learned = learn_committee(NAMES, reference(bins, label), own, 0)
    assert np.array_equal(learned.judged, np.flatnonzero(held_out))
    assert np.array_equal(learned.each["encoder"], own[held_out])
    assert {len(of) for of in learned.each.values()} == {60}
    assert learned.committee.asks_encoder
    assert set(learned.committee.experts) == {"logistic_regression", "discriminant"}
    assert learned.summary()["out_of_fold"]["cells"] == 60
    assert learned.summary()["experts"]["encoder"]["macro_f1"] == 1


def test_by_chance_is_the_macro_f1_of_shuffled_labels():
    """Of two types of 90 and 10 cells and answers of one type, it is the same for any order."""
    label = np.repeat([0, 1], [90, 10])
    alone = by_chance(np.zeros(100, dtype=int), label, 3)
    expected = f1_score(label, np.zeros(100), labels=[0, 1], average="macro", zero_division=0)
    assert alone == pytest.approx({"macro_f1": expected, "high": expected})
    label = np.repeat([0, 1], [180, 20])
    rare = by_chance(label, label, 3)
    assert 0.45 < rare["macro_f1"] < 0.55 < rare["high"] < 0.75
    judged = {"cells": 200, "f1_of_type": [0.9, 0.2, None], "by_chance": rare}
    assert labels_not_learned(judged | {"macro_f1": rare["high"]})
    assert not labels_not_learned(judged | {"macro_f1": 0.8})
    assert not labels_not_learned({"macro_f1": 0.0})  # of an older version
    few = by_chance(np.arange(3), np.arange(3), 3)
    assert few["high"] == 1
    judged = {"cells": 3, "f1_of_type": [1.0, 1.0, 1.0], "by_chance": few}
    assert not labels_not_learned(judged | {"macro_f1": 1.0})


@pytest.mark.parametrize(("types", "cells"), [(5, 2), (4, 3), (2, 25)])
def test_few_cells_do_not_tell_that_nothing_was_learned(types, cells):
    """Answers that are right in seven of ten cells, and no better than the best shuffle."""
    label = np.repeat(np.arange(types), cells)
    answer = np.where(np.arange(len(label)) % 10 < 7, label, (label + 1) % types)
    chance = by_chance(answer, label, types)
    found = {"macro_f1": chance["high"], "cells": len(label), "by_chance": chance}
    assert not labels_not_learned(found | {"f1_of_type": [0.7] * types})


def test_cells_of_one_type_say_nothing_of_chance():
    """Each shuffle of the labels is the labels."""
    label, answer = np.zeros(60, dtype=int), np.arange(60) % 2
    chance = by_chance(answer, label, 2)
    assert chance["macro_f1"] == pytest.approx(chance["high"])
    found = {"macro_f1": chance["high"], "cells": 60, "by_chance": chance}
    assert not labels_not_learned(found | {"f1_of_type": [0.6, None]})


def test_a_network_alone_has_all_the_weight():
    bins, label = hard()
    held_out = np.arange(180) < 60
    rng = np.random.default_rng(0)
    own = 3 * np.eye(3)[label] + rng.normal(size=(180, 3))
    own[~held_out] = -np.inf
    learned = learn_committee(("encoder",), reference(bins, label), own, 0)
    assert learned.committee.experts == {}
    assert learned.committee.shares["encoder"].weight == 1
    assert (learned.folds_by, learned.without) == ("validation", None)
    assert learned.summary()["out_of_fold"]["encoder_adds"] is None
    assert learned.judged.tolist() == list(range(60))


def test_scores_are_of_cells_that_the_experts_had_not_learned_from():
    """Labels at random: only who has seen a cell could name it."""
    bins, label = np.random.default_rng(0).integers(0, 3, (90, 80)), np.arange(90) % 3
    learned = learn_committee(NAMES[:2], reference(bins, label), None, 0)
    held = learned.summary()["out_of_fold"]
    assert held["macro_f1"] < 0.5
    assert "no better than by chance" in str(labels_not_learned(held)[0])
    expert = learned.committee.experts["logistic_regression"]
    again = expert.logits(reference(bins, label).expression_NV, np.zeros((90, 0)))
    assert (again.argmax(axis=1) == label).mean() > 0.9  # it was learned from all in the end


def test_batches_are_left_out_whole():
    """The third batch swaps the markers of two types: from the others nobody can know that."""
    bins, label = drawn()
    batch = np.array(["a", "b", "c"])[np.arange(90) // 30]
    by_batch = learn_committee(NAMES[:2], reference(bins, label, batch), None, 0)
    by_cell = learn_committee(NAMES[:2], reference(bins, label), None, 0)
    assert (by_batch.folds_by, by_cell.folds_by) == ("batch", "cell")
    swapped = bins.copy()
    swapped[60:, [0, 1, 2, 3]] = bins[60:, [2, 3, 0, 1]]
    strange = learn_committee(NAMES[:2], reference(swapped, label, batch), None, 0)
    apart = np.isin(label, [0, 1]) & (batch == "c")
    named = strange.logits.argmax(axis=1) == label[strange.judged]
    assert not named[apart[strange.judged]].any()


def test_a_type_of_one_batch_alone_judges_nobody():
    bins, label = drawn(n_types=4)
    batch = np.where(label == 3, "a", np.array(["a", "b", "c"])[np.arange(90) // 4 % 3])
    learned = learn_committee(NAMES[:2], reference(bins, label, batch), None, 0)
    assert set(learned.judged) == set(np.flatnonzero(label != 3))
    assert learned.committee.experts["discriminant"].weight_CV.shape == (4, 20)
    assert len(learned.summary()["out_of_fold"]["f1_of_type"]) == 4


def test_the_summary_scores_each_expert():
    bins, label = drawn()
    learned = learn_committee(NAMES[:2], reference(bins, label), None, 0)
    found = learned.summary()
    assert list(found["experts"]) == list(NAMES[:2])
    for one in found["experts"].values():
        assert set(one) == {
            "weight",
            "temperature",
            "logit_adjustment",
            "macro_f1",
            "log_loss",
            "f1_of_type",
        }
        assert one["macro_f1"] == pytest.approx(np.mean(one["f1_of_type"]))
        assert 0 < one["log_loss"] < 0.3
    assert found["out_of_fold"]["folds_by"] == "cell"
    assert found["out_of_fold"]["encoder_adds"] is None


@pytest.mark.parametrize("changed", [7, 50])
def test_the_answer_about_a_cell_does_not_know_its_label(changed):
    """Same folds: they are of batches."""
    bins, label = hard()
    batch = np.array(["a", "b", "c"])[np.arange(180) % 7 % 3]
    other = label.copy()
    other[changed] = (label[changed] + 1) % 3
    before, after = (
        learn_committee(NAMES[:2], reference(bins, of, batch), None, 0) for of in (label, other)
    )
    for name in NAMES[:2]:
        said = [
            learned.each[name][changed] - learned.adjustment[name] * rarity(of)
            for learned, of in ((before, label), (after, other))
        ]
        assert np.abs(said[0] - said[1]).max() < 1e-6
    assert not np.array_equal(before.logits, after.logits)


class Network(torch.nn.Module):
    """Gives a vector of ones, and no logits or those that are given."""

    def __init__(self, logits=None):
        super().__init__()
        self.logits, self.runs = logits, 0

    def forward(self, genes, tokens, real, packing=None):
        self.runs += 1
        n_cells = len(genes)
        made = torch.zeros(n_cells, 0) if self.logits is None else self.logits.repeat(n_cells, 1)
        return made, torch.ones(n_cells, 4)


@pytest.fixture(scope="module")
def learned():
    bins, label = hard()
    made = learn_committee(NAMES, reference(bins, label, vectors=vectors_of(label)), None, 0)
    return SimpleNamespace(bins=bins, committee=made.committee, store=store_of(bins))


def weighed(committee, *weights):
    names = zip(NAMES, weights, strict=True)
    shares = {name: Share(weight, committee.shares[name].temperature) for name, weight in names}
    return Committee(committee.experts, shares)


def asked(committee, network, learned, **options):
    cells = CellBatches(learned.store, "expressed_genes", 5, 4096)
    rows = np.array([3, 0, 170])
    done = []
    given = (committee, network, cells, rows, torch.device("cpu"), done.append)
    found = ask(*given, precision="no", **options)
    assert sum(done) == 3
    return found, rows


def test_a_network_without_weight_does_not_run_unless_all_are_asked(learned):
    committee, network = weighed(learned.committee, 0.5, 0.5, 0.0), Network()
    found, _ = asked(committee, network, learned)
    assert network.runs == 0
    assert set(found.experts) == {"logistic_regression", "discriminant"}
    every, _ = asked(committee, network, learned, all_experts=True)
    assert network.runs == 1
    assert set(every.experts) == set(NAMES)
    assert np.array_equal(every.logits, found.logits)
    assert (found.vectors.shape, every.vectors.shape) == ((3, 0), (3, 4))


def test_the_encoders_expert_reads_the_vectors_of_the_network(learned):
    committee, network = weighed(learned.committee, 0.25, 0.25, 0.5), Network()
    found, rows = asked(committee, network, learned)
    reads = reference(learned.bins, np.zeros(180)).expression_NV[rows]
    expected = committee.experts["encoder"].logits(reads, np.ones((3, 4)))
    assert np.abs(found.experts["encoder"] - expected).max() < 1e-6 * np.abs(expected).max()
    assert np.abs(found.logits - combine(found.experts, committee.shares)).max() < 1e-5


def test_a_head_of_the_networks_own_speaks_for_the_encoder(learned):
    experts = {name: learned.committee.experts[name] for name in NAMES[:2]}
    committee = Committee(experts, weighed(learned.committee, 0.0, 0.0, 1.0).shares)
    own = torch.tensor([[0.0, 5.0, 1.0]])
    found, _ = asked(committee, Network(own), learned)
    assert found.experts["encoder"].tolist() == own.repeat(3, 1).tolist()
    assert found.logits.argmax(axis=1).tolist() == [1, 1, 1]


def test_a_type_of_one_batch_is_not_scored_as_if_it_had_been_missed():
    """No other batch has it, so nothing could be learned of it: that is not an F1 of 0."""
    bins, label = hard()
    label = np.where(np.arange(180) >= 170, label.max() + 1, label)
    batch = np.where(np.arange(180) >= 170, "z", np.array(list("abc"))[np.arange(180) // 3 % 3])
    cells = reference(bins, label, batch, noise(180))
    held = learn_committee(NAMES, cells, None, 0).summary()["out_of_fold"]
    assert held["f1_of_type"][-1] is None
    assert held["macro_f1"] == pytest.approx(np.mean(held["f1_of_type"][:-1]))
    assert held["cells"] == 170


def test_a_single_experts_logits_keep_their_size():
    logits = {"encoder": np.array([[9.0, 1.0], [0.5, 0.25]])}
    joint = combine(logits, {"encoder": Share(1.0, 2.0)})
    assert joint.tolist() == [[4.5, 0.5], [0.25, 0.125]]


@pytest.mark.parametrize("names", [NAMES, ("encoder",)])
def test_of_one_cell_per_type_nothing_is_fitted_that_needs_a_held_out_cell(names):
    """The encoder cannot show that it is worth its time; alone it is all there is."""
    bins, label = drawn(n_cells=3)
    learned = learn_committee(names, reference(bins, label, None, vectors_of(label)), None, 0)
    shares = learned.committee.shares
    expected = {"encoder": 1.0} if len(names) == 1 else dict(zip(names, (0.5, 0.5, 0), strict=True))
    assert {name: share.weight for name, share in shares.items()} == expected
    assert {share.temperature for share in shares.values()} == {1.0}
    assert set(learned.committee.experts) == set(names)
    found = learned.summary()
    assert found["out_of_fold"]["cells"] == 0
    assert found["out_of_fold"]["f1_of_type"] == [None] * 3
    assert found["experts"]["encoder"]["macro_f1"] is None


def test_one_type_of_two_cells_is_judged_and_the_others_are_not():
    bins, label = drawn(n_cells=4)
    learned = learn_committee(NAMES[:2], reference(bins, label), None, 0)
    assert learned.judged.tolist() == [0, 3]
    assert learned.summary()["out_of_fold"]["f1_of_type"][1:] == [None, None]
