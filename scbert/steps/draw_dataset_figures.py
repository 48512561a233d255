"""Rule draw_dataset_figures: results -> figures of one labelled dataset."""

from collections.abc import Sequence
from pathlib import Path

from scbert.evidence.comparison import Comparison
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.history import FinetuningEpoch, read_history
from scbert.files import read_json, write_text
from scbert.report import calibration_figures, dataset_figures


def draw_dataset_figures(
    evaluation: Path,
    comparison: Path,
    models: Sequence[Path],
    *,
    scores: Path,
    confusion: Path,
    per_type: Path,
    finetuning: Path,
    umap: Path,
    reliability: Path,
    unknown: Path,
) -> None:
    """Draw what is known about one labelled dataset.

    Parameters
    ----------
    evaluation, comparison
        The JSON files of the evaluate and compare steps.
    models
        One folder for each seed, with history.jsonl and calibration.json inside. The figure
        `finetuning` shows the epochs of a network that was trained, else the experts.
    scores, confusion, per_type, finetuning, umap, reliability, unknown
        The SVG files to write.
    """
    if not models:
        raise ValueError(
            "no model is given, but the figure of fine-tuning needs at least one. "
            "Pass the folders results/models/{dataset}/seed*."
        )
    found = Evaluation.read(evaluation)
    histories = [read_history(model / "history.jsonl", FinetuningEpoch) for model in models]
    write_text(scores, dataset_figures.draw_scores(Comparison.read(comparison)))
    write_text(confusion, dataset_figures.draw_confusion(found.scbert))
    write_text(per_type, dataset_figures.draw_per_type(found.scbert))
    calibrations = [read_json(model / "calibration.json") for model in models]
    if all(histories):
        write_text(finetuning, dataset_figures.draw_finetuning(histories))
    else:
        write_text(finetuning, dataset_figures.draw_experts(calibrations))
    write_text(umap, dataset_figures.draw_umap(found))
    write_text(reliability, calibration_figures.draw_reliability(found.scbert.reliability))
    write_text(unknown, calibration_figures.draw_novelty(found.scbert.unknown, calibrations))
