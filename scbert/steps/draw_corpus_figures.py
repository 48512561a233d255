"""Rule draw_corpus_figures: results -> figures of tokens, gene vectors and pretraining."""

from pathlib import Path

from scbert.evidence.history import PretrainingEpoch, read_history
from scbert.evidence.pretraining_scores import PretrainingScores
from scbert.evidence.vector_quality import VectorQuality
from scbert.files import read_json, write_text
from scbert.report import corpus_figures, gene2vec_figures
from scbert.tables import read_table
from scbert.training.bundle_files import verify_files


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

    Raises
    ------
    ValueError
        If a file of the model is not what was saved with it, or it holds no epoch.
    """
    verify_files(pretrained)
    gene_map = read_table(gene2vec / "map.tsv", "symbol", "x", "y")
    gene_map = gene_map.astype({"x": float, "y": float})
    history = read_history(pretrained / "history.jsonl", PretrainingEpoch)
    if not history:
        raise ValueError(f"{pretrained} holds no epoch, so there is nothing to draw. Train again.")
    scores = PretrainingScores.read(pretrained / "validation.json")
    write_text(tokens_figure, corpus_figures.draw_tokens(read_json(tokens)))
    write_text(gene2vec_figure, gene2vec_figures.draw_gene2vec(gene_map))
    judged = VectorQuality.read(gene2vec_quality)
    write_text(gene2vec_quality_figure, gene2vec_figures.draw_gene2vec_quality(judged))
    write_text(pretraining_figure, corpus_figures.draw_pretraining(history, scores))
