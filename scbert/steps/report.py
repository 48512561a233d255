"""Rules draw_corpus_figures, draw_dataset_figures and report: results -> figures -> one page."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scbert.cells.quality import read_quality
from scbert.cells.tables import read_table
from scbert.config import load_config
from scbert.evidence import corpus_figures, dataset_figures, gene2vec_figures, unknown_figures
from scbert.evidence.report import DatasetEvidence, Evidence, StepCost, render_report
from scbert.files import publish, read_json
from scbert.provenance import provenance

log = logging.getLogger("scbert")

NOT_MEASURED = ("-", "NA", "")  # what Snakemake writes for a step that was over too soon


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
        One folder for each seed, with history.jsonl and calibration.json inside.
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
    _write(finetuning, dataset_figures.draw_finetuning(histories))
    _write(umap, dataset_figures.draw_umap(found))
    _write(reliability, dataset_figures.draw_reliability(found))
    calibrations = [read_json(model / "calibration.json") for model in models]
    _write(unknown, unknown_figures.draw_unknown(found, calibrations))


def write_report(
    evaluations: Sequence[Path],
    comparisons: Sequence[Path],
    explanations: Sequence[Path],
    *,
    dataset_figures: Sequence[Path],
    corpus_figures: Sequence[Path],
    quality: Path,
    overlaps: Sequence[Path],
    stores: Sequence[Path],
    gene2vec: Path,
    gene2vec_quality: Path,
    validation: Path,
    benchmarks: Path,
    config: Path,
    report: Path,
) -> None:
    """Lay the evidence out as one HTML file that needs nothing beside itself.

    Parameters
    ----------
    evaluations, comparisons
        JSON files of the evaluate and compare steps, one each for every dataset to show.
    explanations
        Files {dataset}/explanation.json of the explain step, one for each.
    dataset_figures
        SVG files {dataset}/{name}.svg.
    corpus_figures
        SVG files tokens.svg, gene2vec.svg, gene2vec_quality.svg and pretraining.svg.
    quality
        The table of summarize_quality.
    overlaps
        JSON files beside the expression, one for each sample or dataset.
    stores
        meta.json files of the token stores.
    gene2vec
        meta.json of the gene vectors.
    gene2vec_quality
        The JSON file of evaluate_gene2vec.
    validation
        validation.json of the pretrained model.
    benchmarks
        Folder of Snakemake's benchmark tables; it may be absent.
    config
        The resolved configuration as JSON.
    report
        The HTML file to write.

    Raises
    ------
    ValueError
        If a dataset lacks its comparison or one of its figures.
    """
    evidence = Evidence(
        datasets=_join_datasets(evaluations, comparisons, explanations, dataset_figures),
        figures={path.stem: path.read_text() for path in corpus_figures},
        quality=read_quality(quality),
        overlaps=[read_json(path) for path in overlaps],
        stores=[read_json(path) for path in stores],
        gene2vec=read_json(gene2vec),
        gene2vec_quality=read_json(gene2vec_quality),
        validation=read_json(validation),
        steps=_read_costs(benchmarks),
        config=load_config(read_json(config)).model_dump(mode="json"),
        provenance=provenance(),
    )
    _write(report, render_report(evidence))
    log.info("%s: %d dataset(s), %.1f MB.", report, len(evaluations), report.stat().st_size / 1e6)


def _join_datasets(
    evaluations: Sequence[Path],
    comparisons: Sequence[Path],
    explanations: Sequence[Path],
    figures: Sequence[Path],
) -> list[DatasetEvidence]:
    compared = {found["dataset"]: found for found in map(read_json, comparisons)}
    explained = {path.parent.name: read_json(path) for path in explanations}
    drawn: dict[str, dict[str, str]] = {}
    for path in figures:
        drawn.setdefault(path.parent.name, {})[path.stem] = path.read_text()
    datasets = []
    for evaluation in map(read_json, evaluations):
        name = evaluation["dataset"]
        if name not in compared:
            raise ValueError(
                f"dataset '{name}' has an evaluation but no comparison; there are comparisons of "
                f"{', '.join(compared) or 'none'}. Every score stands beside the baselines': pass "
                f"the comparison of '{name}' too."
            )
        if name not in explained:
            raise ValueError(
                f"dataset '{name}' has no explanation.json; there are explanations of "
                f"{', '.join(explained) or 'none'}. Run the explain step for '{name}'."
            )
        figures_of = drawn.get(name, {})
        datasets.append(DatasetEvidence(evaluation, compared[name], explained[name], figures_of))
    return datasets


def _read_costs(folder: Path) -> list[StepCost]:
    """Read Snakemake's benchmark tables; each is named by its path inside the folder."""
    costs = []
    for path in sorted(folder.rglob("*.tsv")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        for row in read_table(path, "s", "max_rss").to_dict("records"):
            memory = None if row["max_rss"] in NOT_MEASURED else float(row["max_rss"])
            costs.append(StepCost(name, float(row["s"]), memory))
    return costs


def _read_history(path: Path) -> list[dict[str, Any]]:
    history = [json.loads(line) for line in path.read_text().splitlines()]
    if not history:
        raise ValueError(f"{path} holds no epoch, so there is nothing to draw. Train again.")
    return history


def _write(path: Path, text: str) -> None:
    with publish(path) as unfinished:
        unfinished.write_text(text)
