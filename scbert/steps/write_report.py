"""Rule write_report: results and figures -> one page."""

import logging
from collections.abc import Sequence
from pathlib import Path

from scbert.cells.quality import read_quality
from scbert.config import load_config
from scbert.evidence.comparison import Comparison
from scbert.evidence.evaluation import Evaluation
from scbert.evidence.explained import Explained
from scbert.evidence.pretraining_scores import PretrainingScores
from scbert.evidence.vector_quality import VectorQuality
from scbert.files import read_json, write_text
from scbert.provenance import provenance
from scbert.report.report import (
    CorpusEvidence,
    DatasetEvidence,
    Evidence,
    StepCost,
    render_report,
)
from scbert.tables import read_table

log = logging.getLogger("scbert")
NOT_MEASURED = ("-", "NA", "")  # what Snakemake writes for a step that was over too soon


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
    evaluations, comparisons, explanations
        JSON files of evaluate, compare and explain ({dataset}/explanation.json), one of each for
        every dataset to show.
    dataset_figures, corpus_figures
        SVG files: {dataset}/{name}.svg; tokens, gene2vec, gene2vec_quality and pretraining.svg.
    quality, overlaps, stores, gene2vec, gene2vec_quality, validation
        Of the corpus: the table of summarize_quality; the JSON files beside the expression;
        meta.json of each token store and of the gene vectors; the JSON file of evaluate_gene2vec;
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
    datasets = _join_datasets(evaluations, comparisons, explanations, dataset_figures)
    corpus = _read_corpus(
        corpus_figures, quality, overlaps, stores, gene2vec, gene2vec_quality, validation
    )
    settings = load_config(read_json(config))
    evidence = Evidence(corpus, datasets, _read_costs(benchmarks), settings, provenance())
    write_text(report, render_report(evidence))
    log.info("%s: %d dataset(s), %.1f MB.", report, len(datasets), report.stat().st_size / 1e6)


def _read_corpus(
    figures: Sequence[Path],
    quality: Path,
    overlaps: Sequence[Path],
    stores: Sequence[Path],
    gene2vec: Path,
    gene2vec_quality: Path,
    validation: Path,
) -> CorpusEvidence:
    return CorpusEvidence(
        figures={path.stem: path.read_text() for path in figures},
        quality=read_quality(quality),
        overlaps=[read_json(path) for path in overlaps],
        stores=[read_json(path) for path in stores],
        gene2vec=read_json(gene2vec),
        gene2vec_quality=VectorQuality.read(gene2vec_quality),
        pretraining=PretrainingScores.read(validation),
    )


def _join_datasets(
    evaluations: Sequence[Path],
    comparisons: Sequence[Path],
    explanations: Sequence[Path],
    figures: Sequence[Path],
) -> list[DatasetEvidence]:
    compared = {found.dataset: found for found in map(Comparison.read, comparisons)}
    explained = {path.parent.name: Explained.read(path) for path in explanations}
    drawn: dict[str, dict[str, str]] = {}
    for path in figures:
        drawn.setdefault(path.parent.name, {})[path.stem] = path.read_text()
    datasets = []
    for evaluation in map(Evaluation.read, evaluations):
        name = evaluation.dataset
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
