"""Rule compare: expression and predictions -> scBERT beside baselines, on the same test cells."""

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.config import Compare, CompareSettings, Evaluate
from scbert.evidence import metrics
from scbert.evidence.baselines import LabelledCells, fit_baseline
from scbert.evidence.comparison import (
    Comparison,
    Difference,
    Interval,
    MethodScores,
    OutOfFoldComparison,
    OutOfFoldScores,
)
from scbert.evidence.predictions import (
    Prediction,
    all_classes,
    describe_parts,
    log_scores,
    read_predictions,
    read_split,
)
from scbert.experts.titles import EXPERT_TITLES as TITLES
from scbert.files import read_json

ENDS = ("mean", "low", "high")
NO_TEST = (
    "No cell was held out, so there is no test score. Each expert was asked about cells that it "
    "had not learned from, and then learned again from all; but their weights and the temperature "
    "were fitted to these very answers, and another study can be harder."
)
ONE_EACH = (
    "No cell was held out, so there is no test score, and with one labelled cell of each type "
    "there is none out of fold either: how well the model names cells is not known."
)


def compare(
    expression: Path,
    split: Path,
    predictions: list[Path],
    comparison: Path,
    settings: CompareSettings,
) -> None:
    """Score baselines and controls on the same test cells, and their difference from scBERT.

    Parameters
    ----------
    expression
        AnnData with log2(1 + counts per 10 000) of at least the cells of the split.
    split, predictions
        As for `evaluate`.
    comparison
        The JSON file to write.
    settings
        Methods and bootstrap.

    Raises
    ------
    ValueError
        As for `evaluate`, or if cells of the split have no expression.
    """
    table = read_split(split)
    cells = _labelled_parts(expression, table)
    test, seeds = cells["test"], read_predictions(predictions, table.query("part == 'test'").index)
    judge = _Judge(test.cell_types, all_classes(seeds, table["cell_type"]), settings.evaluate)
    ours = _scbert(seeds)
    others = [*_experts(seeds), *_baselines(cells["learned"], test, settings.compare)]
    methods = [judge.scores(method) for method in (ours, *others)]
    for found in methods:
        scores = {name: found.metric(name) for name in metrics.METRICS}
        log_scores(found.title, scores, found.setting)
    Comparison(
        dataset=split.stem,
        n_test=int((table.part == "test").sum()),
        n_train=int((table.part == "train").sum()),
        n_validation=int((table.part == "validation").sum()),
        confidence_level=settings.evaluate.confidence_level,
        interval=_describe_interval(settings.evaluate),
        methods=methods,
        differences=[one for method in others for one in judge.differences(ours, method)],
    ).write(comparison)


def compare_out_of_fold(split: Path, model: Path, comparison: Path) -> None:
    """Write how well the experts named labelled cells that they had not learned from.

    No test was held out. These scores are named out_of_fold_macro_f1 and so on, and have no
    intervals, so that nothing that looks for test scores takes them for some.

    Parameters
    ----------
    split
        As for `evaluate`, without test cells.
    model
        Folder of the model.
    comparison
        The JSON file to write.
    """
    table = read_split(split, ("train",))
    found = read_json(model / "calibration.json")
    together, each = found["out_of_fold"], found["experts"]
    methods = [("scbert", "scBERT", together)]
    methods += [(f"scbert_{name}", f"its {TITLES[name]} alone", each[name]) for name in each]
    OutOfFoldComparison(
        dataset=split.stem,
        scored_on="out of fold",
        caution=NO_TEST if together["cells"] else ONE_EACH,
        n_test=0,
        n_out_of_fold=together["cells"],
        parts=describe_parts(table),
        methods=[
            OutOfFoldScores(method, title, scores["macro_f1"], scores["log_loss"])
            for method, title, scores in methods
            if together["cells"]
        ],
    ).write(comparison)


@dataclass(frozen=True)
class _Method:
    """What a method is, how it was set, and the type that it gives each test cell, by seed."""

    method: str
    title: str
    kind: str
    setting: str
    predictions: list[np.ndarray]


@dataclass(frozen=True)
class _Judge:
    """The true types of the test cells, all types, and how to score."""

    true: np.ndarray
    classes: list[str]
    settings: Evaluate

    def scores(self, one: _Method) -> MethodScores:
        """Return the scores of a method, with intervals, and F1 of each type."""
        given = (self.true, one.predictions, self.classes)
        found = metrics.bootstrap_scores(*given, self.settings)
        per_type = metrics.per_type_scores(*given)
        return MethodScores(
            method=one.method,
            title=one.title,
            kind=one.kind,
            setting=one.setting,
            **{name: Interval(s.mean, s.low, s.high) for name, s in found.items()},
            f1_of_type={score.cell_type: score.f1 for score in per_type},
        )

    def differences(self, ours: _Method, theirs: _Method) -> list[Difference]:
        """Return how far one method is ahead of another, on the same resamples."""
        found = metrics.paired_difference(
            self.true,
            ours.predictions,
            theirs.predictions,
            classes=self.classes,
            settings=self.settings,
        )
        shown = ((metric, found[metric]) for metric in ("macro_f1", "accuracy"))
        return [Difference(theirs.method, metric, d.mean, d.low, d.high) for metric, d in shown]


def _labelled_parts(expression: Path, table: pd.DataFrame) -> dict[str, LabelledCells]:
    adata = ad.read_h5ad(expression)
    missing = table.index.difference(adata.obs_names)
    if len(missing):
        raise ValueError(
            f"{expression} lacks {len(missing)} of the {len(table)} cells of the split, such as "
            f"'{missing[0]}', but every method needs the same cells. Make both from one dataset."
        )
    cells = {}
    for name, rows in (
        ("test", table[table.part == "test"]),
        ("learned", table[table.part != "test"]),  # by scBERT, too: train and validation
    ):
        matrix = sparse.csr_matrix(adata[rows.index].X)
        cells[name] = LabelledCells(matrix, rows["cell_type"].to_numpy(dtype=str))
    return cells


def _scbert(seeds: list[Prediction]) -> _Method:
    names = ", ".join(str(seed.seed) for seed in seeds)
    return _Method(
        method="scbert",
        title="scBERT",
        kind="model",
        setting=f"Mean over {len(seeds)} fine-tuned model(s), seed {names}.",
        predictions=[seed.predicted for seed in seeds],
    )


def _experts(seeds: list[Prediction]) -> list[_Method]:
    """Return the experts that every seed's model has asked."""
    asked = [name for name in seeds[0].experts if all(name in seed.experts for seed in seeds)]
    return [
        _Method(
            method=f"scbert_{name}",
            title=f"scBERT, its {TITLES[name]} alone",
            kind="expert",
            setting="An expert of the same models, without the others.",
            predictions=[seed.experts[name] for seed in seeds],
        )
        for name in asked
    ]


def _baselines(learned: LabelledCells, test: LabelledCells, options: Compare) -> list[_Method]:
    """Fit the baselines and controls, and name the test cells by them."""
    fitted = (fit_baseline(method, learned, options.seed) for method in options.methods)
    return [
        _Method(
            method=one.method,
            title=one.title,
            kind=one.kind,
            setting=one.setting,
            predictions=[one.predict(test.expression)],
        )
        for one in fitted
    ]


def _describe_interval(settings: Evaluate) -> str:
    return (
        f"{settings.confidence_level:.0%} percentile bootstrap: {settings.bootstrap_samples} "
        "resamples of the test cells, the same for every method and seed, scoring the mean over "
        "seeds; the spread of training again is not in it."
    )
