"""Rule write_model_card: what made a model and how well it does -> README.md of the bundle."""

from pathlib import Path

import pandas as pd

from scbert.evidence.comparison import Comparison, OutOfFoldComparison
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.history import FinetuningEpoch, read_history
from scbert.files import read_json, write_text
from scbert.report.card import card_without_test, write_card
from scbert.report.card_evidence import CardEvidence, GeneNumbers
from scbert.tables import read_table
from scbert.training.bundle_files import verify_files


def write_model_card(
    model: Path, evaluation: Path, comparison: Path, quality: Path, card: Path
) -> None:
    """Write the model card: data, sizes, scores per type beside the baselines', calibration.

    Parameters
    ----------
    model
        Folder of the fine-tuned model.
    evaluation, comparison
        JSON files of the evaluate and compare steps.
    quality
        The JSON file of read_counts.
    card
        The Markdown file to write.

    Raises
    ------
    ValueError
        If a file of the model is not what was saved with it.
    """
    verify_files(model)
    about = CardEvidence(
        name=model.name,
        config=read_json(model / "config.json"),
        calibration=read_json(model / "calibration.json"),
        history=read_history(model / "history.jsonl", FinetuningEpoch),
        genes=_count_genes(read_table(model / "genes.tsv", "symbol", "measured")),
        evaluation=Evaluation.read(evaluation),
        comparison=Comparison.read(comparison),
        quality=read_json(quality),
    )
    text = write_card(about)
    write_text(card, text)


def _count_genes(genes: pd.DataFrame) -> GeneNumbers:
    measured = genes.measured == "True"
    used = measured & (genes.used == "True") if "used" in genes else measured
    return GeneNumbers(len(genes), measured=int(measured.sum()), used=int(used.sum()))


def write_card_without_test(model: Path, comparison: Path, quality: Path, card: Path) -> None:
    """Write the card.

    Parameters
    ----------
    model
        Folder of the fine-tuned model.
    comparison
        As `compare_out_of_fold` writes it.
    quality
        The JSON file of read_counts.
    card
        The Markdown file to write.

    Raises
    ------
    ValueError
        If a file of the model is not what was saved with it.
    """
    verify_files(model)
    text = card_without_test(
        model.name,
        config=read_json(model / "config.json"),
        calibration=read_json(model / "calibration.json"),
        comparison=OutOfFoldComparison.read(comparison),
        quality=read_json(quality),
    )
    write_text(card, text)
