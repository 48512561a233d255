"""Figures: every one is valid, repeatable, readable and light."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from scbert.calibration.calibrate import NOT_CALIBRATED
from scbert.calibration.confidence import ConfidenceBin
from scbert.calibration.fitted import Calibration
from scbert.calibration.novelty_threshold import Coverage, UnknownScores
from scbert.evidence.bootstrap import Interval
from scbert.evidence.comparison import Comparison, Difference, MethodScores, Part
from scbert.evidence.evaluation import (
    Curve,
    Evaluation,
    ModelScores,
    Order,
    Place,
    Reliability,
    SeedScores,
    TypeScores,
    Unknown,
)
from scbert.evidence.history import FinetuningEpoch, PretrainingEpoch
from scbert.evidence.pretraining_scores import (
    BinScores,
    KeptVisible,
    PretrainingScores,
)
from scbert.evidence.vector_quality import Measure, NamedMeasure, VectorQuality, VectorScores
from scbert.network.layer_attention import LayerAttention
from scbert.report import calibration_figures, corpus_figures, dataset_figures, gene2vec_figures
from scbert.report.style import short_count, short_name
from scbert.tokens.store_files import StoreMeta

PBMC = {
    "CD14+ Monocyte": 26,
    "CD19+ B": 19,
    "CD34+": 3,
    "CD4+/CD25 T Reg": 14,
    "CD4+/CD45RA+/CD25- Naive T": 2,
    "CD4+/CD45RO+ Memory": 4,
    "CD56+ NK": 6,
    "CD8+ Cytotoxic T": 11,
    "CD8+/CD45RA+ Naive Cytotoxic": 9,
    "Dendritic": 48,
}
METRICS = ("accuracy", "macro_f1", "balanced_accuracy")


def make_score(mean: float, width: float = 0.06) -> Interval:
    return Interval(mean, max(mean - width, 0.0), min(mean + width, 1.0))


def make_evaluation(
    dataset="pbmc68k_reduced", support=PBMC, seeds=(2021, 2022, 2023)
) -> Evaluation:
    """Return what the evaluate step writes; the last class is never predicted."""
    rng = np.random.default_rng(0)
    classes = list(support)
    noise = rng.dirichlet(np.full(len(classes), 0.3), size=len(classes))
    confusion = [
        rng.multinomial(n * len(seeds), 0.75 * np.eye(len(classes))[i] + 0.25 * noise[i])
        for i, n in enumerate(support.values())
    ]
    true = np.repeat(classes, list(support.values()))
    predicted = np.where(rng.random(len(true)) < 0.8, true, rng.choice(classes[:-1], len(true)))
    centres = dict(zip(classes, rng.normal(0, 5, (len(classes), 2)), strict=True))
    confidence = np.linspace(0.35, 0.98, 8)
    bins = [
        ConfidenceBin(c, c * 0.9, int(n))
        for c, n in zip(confidence, rng.integers(4, 160, 8), strict=True)
    ]
    scbert = ModelScores(
        classes=classes,
        n_test=len(true),
        seeds=list(seeds),
        confidence_level=0.95,
        scores={
            metric: SeedScores(
                0.7431, 0.6831, 0.8031, [0.7431 + 0.01 * i for i, _ in enumerate(seeds)]
            )
            for metric in METRICS
        },
        confusion=np.array(confusion).tolist(),
        per_type=[
            TypeScores(name, precision=p, recall=r, f1=(p + r) / 2, support=n)
            for (name, n), p, r in zip(
                support.items(), rng.random(len(classes)), rng.random(len(classes)), strict=True
            )
        ],
        reliability=Reliability(
            temperature=[1.43] * len(seeds),
            before=Curve(0.1234, bins),
            after=Curve(0.0456, bins[1:]),
        ),
        unknown=make_unknown(len(seeds)),
    )
    parts = {part: Part(dict(support), []) for part in ("train", "validation", "test")}
    embedding = [
        Place(f"cell{i}", x, y, true=t, predicted=p)
        for i, (t, p) in enumerate(zip(true.tolist(), predicted.tolist(), strict=True))
        for x, y in [(centres[t] + rng.normal(0, 1, 2)).tolist()]
    ]
    return Evaluation(dataset, parts, scbert, embedding)


def make_unknown(n_seeds: int) -> Unknown:
    """Return the part of the evaluate step on refused cells; there is a type nobody knows."""
    refusal = UnknownScores(
        share_unknown=0.0613,
        accuracy_of_accepted=0.8123,
        strict_novel_accuracy=0.321,
        known_accuracy=0.79,
        novel_detected=0.44,
        false_unknown=0.05,
    )
    coverage = np.linspace(0.01, 1, 60)
    by_score = {
        name: Order(
            0.8 + drop / 10,
            Coverage(coverage.tolist(), (0.98 - drop * coverage**2).tolist(), area=0.9),
        )
        for name, drop in (("novelty", 0.2), ("confidence", 0.26))
    }
    return Unknown(
        threshold=[0.8] * n_seeds,
        novelty_score="energy",
        novel_types=["Platelet"],
        novel_cells=14 * n_seeds,
        calibrated=refusal,
        original=replace(refusal, share_unknown=0.02, accuracy_of_accepted=0.79),
        by_score=[by_score] * n_seeds,
    )


def make_calibrations(support=PBMC, n_seeds: int = 3) -> list[Calibration]:
    """Return calibrations in which only what is drawn was fitted."""
    rng = np.random.default_rng(1)
    return [
        NOT_CALIBRATED
        | {
            "false_unknown_rate": 0.05,
            "expected_novel_detection": [
                {"cell_type": name, "n": n, "detected": float(rng.random()), "auroc": 0.8}
                for name, n in support.items()
            ],
        }
        for _ in range(n_seeds)
    ]


def make_comparison(dataset="pbmc68k_reduced", shift=0.0) -> Comparison:
    """Return what the compare step writes; `shift` moves scBERT's scores."""
    rows = (
        ("scbert", "scBERT", "model", 0.6871 + shift),
        ("majority", "Majority type", "control", 0.0512),
        ("random", "Random by frequency", "control", 0.0934),
        ("logistic_regression", "Logistic regression", "baseline", 0.7152),
        ("discriminant", "Discriminant on components", "baseline", 0.6923),
        ("linear_svm", "Linear SVM", "baseline", 0.6744),
        ("nearest_neighbours", "Nearest neighbours", "baseline", 0.6015),
    )
    return Comparison(
        dataset=dataset,
        n_test=142,
        n_train=416,
        n_validation=142,
        confidence_level=0.95,
        interval="95% percentile bootstrap: 2000 resamples of the test cells.",
        methods=[
            MethodScores(
                method=method,
                title=title,
                kind=kind,
                setting="Inverse penalty C = 0.1; types weigh the same.",
                accuracy=make_score(mean + 0.05),
                macro_f1=make_score(mean),
                balanced_accuracy=make_score(mean + 0.02),
                f1_of_type=dict.fromkeys(PBMC, mean),
            )
            for method, title, kind, mean in rows
        ],
        differences=[
            Difference(method, metric, **make_difference(rows[0][3] - mean))
            for method, _, _, mean in rows[1:]
            for metric in ("macro_f1", "accuracy")
        ],
    )


def make_difference(mean: float) -> dict:
    return {"mean": mean, "low": mean - 0.06, "high": mean + 0.06}


def make_history(n_epochs: int = 12, seed: int = 0) -> list[FinetuningEpoch]:
    noise = np.random.default_rng(seed).normal(0, 0.015, (n_epochs, 3)).tolist()
    return [
        FinetuningEpoch(
            epoch=i + 1,
            train_loss=0.1 + 1.4 * 0.75**i + a,
            validation_loss=0.55 + 0.9 * 0.7**i + b,
            validation_macro_f1=0.72 - 0.5 * 0.7**i + c,
        )
        for i, (a, b, c) in enumerate(noise)
    ]


def make_pretraining(n_epochs: int = 12) -> list[PretrainingEpoch]:
    return [
        PretrainingEpoch(
            one.epoch,
            one.train_loss,
            one.validation_loss,
            validation_accuracy=0.55 - 0.2 * 0.7 ** (one.epoch - 1),
        )
        for one in make_history(n_epochs)
    ]


def make_store(name: str = "embedded") -> StoreMeta:
    return {
        "store": name,
        "cells": 979,
        "tokens": 412345,
        "n_bins": 5,
        "vocabulary_sha256": "ab" * 32,
        "bins": {"0": 51234, "1": 190000, "2": 130000, "3": 60000, "4": 22000, "5": 10345},
        "tokens_per_cell": {"min": 61, "median": 322.5, "max": 2911},
        "sources": [
            {
                "sample": "celltypist_sample",
                "sha256": "cd" * 32,
                "cells": 559,
                "measured_genes": 765,
            }
        ],
    }


def make_gene_map(n_others: int = 6000) -> pd.DataFrame:
    """Return a map in which the markers of one group lie close together."""
    rng = np.random.default_rng(0)
    rows = [
        (symbol, *(centre + rng.normal(0, 0.35, 2)))
        for _, symbols in gene2vec_figures.MARKERS.values()
        for centre in [rng.normal(0, 4, 2)]
        for symbol in symbols
    ]
    families = [f"RPL{i}" for i in range(40)] + [f"MT-CO{i}" for i in range(12)]
    rows += [(symbol, *(rng.normal(0, 0.5, 2) + 6)) for symbol in families]
    rows += [(f"GENE{i}", *rng.normal(0, 3.5, 2)) for i in range(n_others)]
    return pd.DataFrame(rows, columns=["symbol", "x", "y"])


VALIDATION = PretrainingScores(
    cells=97,
    held_out_by="cell",
    masked_tokens=6123,
    loss=0.8912,
    accuracy=0.6123,
    predictors={
        "cell_mode": BinScores(loss=1.2345, accuracy=0.4567),
        "gene_mode": BinScores(loss=1.0987, accuracy=0.5432),
        "additive": BinScores(loss=0.9876, accuracy=0.5654),
    },
    best_predictor="additive",
    skill=Interval(0.0976, 0.0812, 0.1123),
    confidence_level=0.95,
    kept_visible=KeptVisible(tokens=678, loss=0.0123, accuracy=0.9876),
    attention=[
        LayerAttention(
            layer,
            at_floor,
            collapsed=False,
            from_uniform=0.3217,
            from_softmax=0.1453,
            least_from_uniform=0.2109,
            most_from_uniform=0.4321,
        )
        for layer, at_floor in ((1, 0.123), (2, None))  # None: exact attention
    ],
)


def make_gene2vec_quality() -> VectorQuality:
    """Two measures of three methods, and one that could not be taken."""
    aucs = {"gene2vec": 0.66, "svd": 0.68, "random": 0.5}
    scores = {name: VectorScores(make_score(mean, 0.02)) for name, mean in aucs.items()}
    found = Measure(4076, scores, differences={"svd": Interval(-0.02, -0.04, 0.01)})
    return VectorQuality(
        genes_compared=9_876,
        measures=[
            NamedMeasure("gene_sets", "GO biological process", found),
            NamedMeasure("pairs", "labelled pairs, cosine", found),
            NamedMeasure("classifier", "labelled pairs, classifier", Measure(0, reason="few")),
        ],
        nearest={},
        settings={"confidence_level": 0.95},
    )


FIGURES = {
    "tokens": lambda: corpus_figures.draw_tokens(make_store()),
    "gene2vec": lambda: gene2vec_figures.draw_gene2vec(make_gene_map()),
    "gene2vec_quality": lambda: gene2vec_figures.draw_gene2vec_quality(make_gene2vec_quality()),
    "pretraining": lambda: corpus_figures.draw_pretraining(make_pretraining(), VALIDATION),
    "scores": lambda: dataset_figures.draw_scores(make_comparison()),
    "confusion": lambda: dataset_figures.draw_confusion(make_evaluation().scbert),
    "per_type": lambda: dataset_figures.draw_per_type(make_evaluation().scbert),
    "finetuning": lambda: dataset_figures.draw_finetuning([make_history(20, s) for s in range(3)]),
    "umap": lambda: dataset_figures.draw_umap(make_evaluation()),
    "reliability": lambda: calibration_figures.draw_reliability(
        make_evaluation().scbert.reliability
    ),
    "unknown": lambda: calibration_figures.draw_novelty(
        make_evaluation().scbert.unknown, make_calibrations()
    ),
}
WORDS = {
    "tokens": {"bin 0", "not seen by the model", "11.1 %", "5 or more"},
    "gene2vec": {"CD3D", "MS4A1", "HLA-DRA", "T cells", "Ribosomal (RPL, RPS)"},
    "gene2vec_quality": {"these vectors", "random vectors", "4,076", "labelled pairs, cosine"},
    "pretraining": {"held-out", "training", "gene's most", "cell's most", "cell + gene", "epoch"},
    "scores": {"scBERT", "Logistic regression", "0.687", "Macro F1", "Balanced accuracy"},
    "confusion": {"CD14+ Monocyte", "true type", "scBERT's label"},
    "per_type": {"Dendritic  (n = 48)", "precision", "recall", "F1"},
    "finetuning": {"training", "validation", "epoch"},
    "umap": {"True type", "scBERT's label", "Dendritic", "wrong label"},
    "reliability": {"confidence", "cells", "Before temperature scaling: ECE 0.123"},
    "unknown": {
        "by novelty score",
        "by confidence",
        "Dendritic",
        "new types in the test  (n = 42)",
    },
}


def texts(svg: str) -> set[str]:
    return {"".join(element.itertext()).strip() for element in ET.fromstring(svg).iter()}


def points(svg: str) -> int:
    return sum(element.tag.endswith("}use") for element in ET.fromstring(svg).iter())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_its_words_and_is_light(name):
    svg = FIGURES[name]()
    assert texts(svg) >= WORDS[name]
    assert 5_000 < len(svg) < 300_000
    assert "NaN" not in svg


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_bytes_again(name):
    assert FIGURES[name]() == FIGURES[name]()


def test_draw_tokens_copes_with_an_empty_store():
    assert "0.0 %" in texts(corpus_figures.draw_tokens({"bins": {"0": 0, "1": 0}}))


def test_draw_gene2vec_copes_with_a_vocabulary_without_markers():
    gene_map = pd.DataFrame({"symbol": ["A", "B"], "x": [0.0, 1.0], "y": [1.0, 0.0]})
    assert "other genes" in texts(gene2vec_figures.draw_gene2vec(gene_map))


def test_draw_gene2vec_copes_with_an_empty_map():
    gene_map = pd.DataFrame({"symbol": pd.Series([], dtype=str), "x": [], "y": []})
    assert "other genes" in texts(gene2vec_figures.draw_gene2vec(gene_map))


def test_draw_gene2vec_quality_says_when_nothing_was_measured():
    svg = gene2vec_figures.draw_gene2vec_quality(replace(make_gene2vec_quality(), measures=[]))
    assert any("Not measured" in text for text in texts(svg))


def test_draw_gene2vec_keeps_labels_apart():
    """All genes of the B and T cells in one place: no two names may share a position."""
    symbols = ["CD3D", "CD3E", "CD8A", "IL7R", "MS4A1", "CD79A", "CD79B"]
    gene_map = pd.DataFrame({"symbol": symbols, "x": np.linspace(0, 0.01, 7), "y": 0.0})
    gene_map.loc[7] = ["OTHER", 5.0, 5.0]
    root = ET.fromstring(gene2vec_figures.draw_gene2vec(gene_map))
    names = [e for e in root.iter() if e.text and e.text.strip() in symbols]
    places = [(float(e.get("x", "nan")), float(e.get("y", "nan"))) for e in names]
    for i, (x, y) in enumerate(places):
        assert all(abs(x - x2) > 20 or abs(y - y2) > 8 for x2, y2 in places[:i])


def test_draw_pretraining_and_finetuning_cope_with_one_epoch():
    assert "epoch" in texts(corpus_figures.draw_pretraining(make_pretraining(1), VALIDATION))
    assert "epoch" in texts(dataset_figures.draw_finetuning([make_history(1)]))


@pytest.mark.parametrize(
    "draw",
    [
        lambda found: dataset_figures.draw_confusion(found.scbert),
        lambda found: dataset_figures.draw_per_type(found.scbert),
        dataset_figures.draw_umap,
        lambda found: calibration_figures.draw_reliability(found.scbert.reliability),
    ],
    ids=["confusion", "per_type", "umap", "reliability"],
)
def test_dataset_figures_cope_with_two_hostile_classes_and_one_seed(draw):
    hostile = {"<script>alert(1)</script> & $x^2$ 'quoted'": 4, "a very long type name " * 8: 3}
    svg = draw(make_evaluation(support=hostile, seeds=(1,)))
    assert "<script" not in svg
    ET.fromstring(svg)


def test_draw_unknown_copes_with_two_types_all_refused():
    """Of two types none can be left out; of no labelled cell there is no accuracy."""
    nothing = dict.fromkeys(("accuracy_of_accepted", "novel_detected"))
    refused = replace(make_unknown(1).calibrated, share_unknown=1.0, **nothing)
    unknown = replace(make_unknown(1), calibrated=refused)
    (calibration,) = make_calibrations(support={}, n_seeds=1)
    assert "by confidence" in texts(calibration_figures.draw_novelty(unknown, [calibration]))


def test_draw_confusion_names_each_nonzero_count():
    few = replace(make_evaluation().scbert, classes=["A", "B"], confusion=[[12, 0], [31, 40_321]])
    found = texts(dataset_figures.draw_confusion(few))
    assert {"12", "31", "40k"} <= found


def test_draw_confusion_copes_with_a_type_without_test_cells():
    few = replace(make_evaluation().scbert, classes=["A", "B"], confusion=[[2, 0], [0, 0]])
    dataset_figures.draw_confusion(few)


def test_draw_umap_turns_many_cells_into_an_image():
    few, many = make_evaluation(), make_evaluation(support={"A": 900, "B": 800})
    assert points(dataset_figures.draw_umap(few)) > 200
    svg = dataset_figures.draw_umap(many)
    assert points(svg) < 60
    assert "data:image/png;base64" in svg


def test_draw_umap_shows_a_label_that_is_no_class():
    evaluation = make_evaluation()
    first, *others = evaluation.embedding
    novel = replace(evaluation, embedding=[replace(first, predicted="Novel type"), *others])
    assert "Novel type" in texts(dataset_figures.draw_umap(novel))


def test_drawing_leaves_its_input_alone():
    evaluation = make_evaluation()
    dataset_figures.draw_per_type(evaluation.scbert)
    dataset_figures.draw_umap(evaluation)
    assert evaluation == make_evaluation()


def test_short_name_keeps_both_ends():
    assert short_name("CD14+ Monocyte") == "CD14+ Monocyte"
    assert short_name("CD4-positive, alpha-beta memory T cell", 20) == "CD4-positive,…T cell"
    assert short_name("two\nlines\x00") == "two lines"


def test_short_count_stays_short():
    assert [short_count(n) for n in (7, 9500, 95_300)] == ["7", "9500", "95k"]
