"""Rules draw_corpus_figures and draw_dataset_figures: results -> figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scbert.cells.tables import read_table
from scbert.evidence import corpus_figures, dataset_figures, gene2vec_figures, unknown_figures
from scbert.files import publish, read_json


def draw_corpus_figures(
    tokens: Path,
    gene2vec: Path,
    gene2vec_quality: Path,
    pretrained: Path,
    tokens_figure: Path,
    gene2vec_figure: Path,
    gene2vec_quality_figure: Path,
    pretraining_figure: Path,
) -> None:
    """Draw the corpus: its bins, the map of its gene vectors, and pretraining.

    Parameters
    ----------
    tokens
        meta.json of the corpus's token store.
    gene2vec, pretrained
        Folders of the gene vectors and of the pretrained model.
    gene2vec_quality
        The JSON file of evaluate_gene2vec.
    tokens_figure, gene2vec_figure, gene2vec_quality_figure, pretraining_figure
        The SVG files to write.
    """
    gene_map = read_table(gene2vec / "map.tsv", "symbol", "x", "y")
    gene_map = gene_map.astype({"x": float, "y": float})
    history = _read_history(pretrained / "history.jsonl")
    if not history:
        raise ValueError(f"{pretrained} holds no epoch, so there is nothing to draw. Train again.")
    validation = read_json(pretrained / "validation.json")
    _write(tokens_figure, corpus_figures.draw_tokens(read_json(tokens)))
    _write(gene2vec_figure, gene2vec_figures.draw_gene2vec(gene_map))
    judged = read_json(gene2vec_quality)
    _write(gene2vec_quality_figure, gene2vec_figures.draw_gene2vec_quality(judged))
    _write(pretraining_figure, corpus_figures.draw_pretraining(history, validation))


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
    found = read_json(evaluation)
    histories = [_read_history(model / "history.jsonl") for model in models]
    _write(scores, dataset_figures.draw_scores(read_json(comparison)))
    _write(confusion, dataset_figures.draw_confusion(found))
    _write(per_type, dataset_figures.draw_per_type(found))
    calibrations = [read_json(model / "calibration.json") for model in models]
    if all(histories):
        _write(finetuning, dataset_figures.draw_finetuning(histories))
    else:
        _write(finetuning, dataset_figures.draw_experts(calibrations))
    _write(umap, dataset_figures.draw_umap(found))
    _write(reliability, dataset_figures.draw_reliability(found))
    _write(unknown, unknown_figures.draw_unknown(found, calibrations))


def _read_history(path: Path) -> list[dict[str, Any]]:
    """Return a line for each epoch; none if the encoder stayed as it was pretrained."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _write(path: Path, text: str) -> None:
    with publish(path) as unfinished:
        unfinished.write_text(text)
