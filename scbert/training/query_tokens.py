"""Cells to be annotated -> tokens of a model, a part of the cells at a time."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from scbert.cells.quality import cell_sums
from scbert.cells.query import QueryCells
from scbert.cells.read import gene_names, library_sizes
from scbert.cells.scale import Scale, scale_of_parts
from scbert.config import Normalization
from scbert.genes.matching import GeneMatch, match_genes
from scbert.tokens.store import TokenStore, store_in_memory
from scbert.tokens.tokenize import Sample, expression_of_counts, tokenize
from scbert.training.saved_model import SavedModel

log = logging.getLogger(__name__)
FEW_GENES = 0.5  # share of the model's genes, below which the user is warned
LEAST_OVERLAP = 0.05  # as annotate.min_gene_overlap in config/config.yaml, where a model names none


@dataclass(frozen=True)
class TokenPart:
    """The tokens of the cells from number `start`, and their counts, of known genes and of all."""

    start: int
    sample: Sample
    known_counts: float
    counts: float

    @property
    def rows(self) -> slice:
        """The numbers of the cells."""
        return slice(self.start, self.start + len(self.sample.cells))


@dataclass(frozen=True)
class QueryTokens:
    """Cells that a model can take.

    `library` are all counts of each cell, (cells,), where a column of obs gives them.
    """

    query: QueryCells
    model: SavedModel
    match: GeneMatch
    scale: Scale
    library: np.ndarray | None

    def each(self) -> Iterator[TokenPart]:
        """Yield the parts in order; only one of them is in memory.

        Raises
        ------
        ValueError
            If a part is damaged, or has more counts than its library.
        """
        for start, part in self.query.parts.each():
            try:
                yield self._tokens(start, part)
            except ValueError as error:
                last = start + part.shape[0] - 1
                raise ValueError(
                    f"cells {start} to {last} of {self.query.name}: {error}"
                ) from error

    def store(self) -> TokenStore:
        """Return the tokens of all cells, in memory."""
        samples = [part.sample for part in self.each()]
        whole = replace(
            samples[0],
            cells=[cell for sample in samples for cell in sample.cells],
            levels=sparse.vstack([sample.levels for sample in samples], format="csr"),
            below_one=sum(sample.below_one for sample in samples),
        )
        return store_in_memory(whole)

    def _tokens(self, start: int, part: sparse.csr_matrix) -> TokenPart:
        rows = slice(start, start + part.shape[0])
        normalization = Normalization.model_validate(self.model.config["normalization"])
        if self.scale.kind == "log1p":
            linear = self.scale.taken_back(part)
            library = np.full(part.shape[0], self.scale.target_sum or normalization.target_sum)
        else:
            linear = part.astype(np.float64)
            library = cell_sums(linear) if self.library is None else self.library[rows]
        expression = expression_of_counts(linear, library, self.match, normalization)
        sample = tokenize(
            self.query.name,
            self.query.obs.index[rows].astype(str).tolist(),
            expression,
            self.match.measured,
            self.model.config["n_bins"],
        )
        known = linear.data[self.match.index[linear.indices] >= 0]
        return TokenPart(start, sample, float(known.sum()), float(linear.sum()))


def tokens_for(query: QueryCells, model: SavedModel) -> QueryTokens:
    """Find out what the matrix holds and which of its genes the model knows.

    All of the matrix is read once: what cannot be used is refused before hours are spent on it.

    Raises
    ------
    ValueError
        If the cells cannot be used or share too few genes with the model.
    """
    match = match_query(query, model)
    require_overlap(match, model, query.name)
    _warn_of_few_genes(match, model, query.name)
    library_size_key = query.reading.library_size_key
    library = library_sizes(query.obs, library_size_key, query.name)
    found = scale_of_parts(query.parts, query.reading.scale)
    if found.kind == "log1p" and library_size_key:
        log.warning("%s holds %s: obs['%s'] is not used", query.name, found, library_size_key)
    log.info(
        "%s: %s holds %s; %d of %d genes are known to the model (%d by Ensembl id, %d by symbol, "
        "%d by an older name or alias)",
        *(query.name, query.found, found, match.matched, len(match.index)),
        *(match.by_id, match.by_symbol, match.by_alias),
    )
    return QueryTokens(query, model, match, found, library)


def match_query(query: QueryCells, model: SavedModel) -> GeneMatch:
    """Return which gene of the model's vocabulary each gene of the query is."""
    return match_genes(gene_names(query.genes), model.genes)


def overlap(match: GeneMatch, model: SavedModel) -> tuple[int, int]:
    """Return how many genes the query has of those that the model uses, and how many these are."""
    learned = model.learned
    return int(learned[match.measured].sum()), int(learned.sum())


def least_overlap(model: SavedModel) -> float:
    """Return the share of its genes that a model needs; one that is only pretrained names none."""
    return model.config.get("annotate", {}).get("min_gene_overlap", LEAST_OVERLAP)


def _warn_of_few_genes(match: GeneMatch, model: SavedModel, name: str) -> None:
    """Say so where many of the model's genes were not measured: it treats them as not expressed."""
    found, n_used = overlap(match, model)
    if found < FEW_GENES * n_used:
        log.warning(
            "%s has only %s of the %s genes that the model uses (%.0f %%); it treats the others "
            "as not expressed, so its labels are less accurate than its card says, and more cells "
            "are called unknown. Give all genes that were measured, or fine-tune a model on "
            "cells with this panel of genes.",
            *(name, f"{found:,}", f"{n_used:,}", 100 * found / n_used),
        )


def require_overlap(match: GeneMatch, model: SavedModel, name: str) -> None:
    """Refuse cells of which too few of the model's genes were measured.

    Raises
    ------
    ValueError
        With both numbers, and examples of genes that the model does not know.
    """
    needed = least_overlap(model)
    found, n_used = overlap(match, model)
    if found < needed * n_used or found == 0:
        unknown = ", ".join(match.unmatched[:3])
        raise ValueError(
            f"{name} has only {found} of the {n_used} genes that the model uses "
            f"({found / n_used:.1%}), {needed:.0%} are needed; of its own {len(match.index)} genes "
            f"the model knows {match.matched}" + (f", not {unknown}, ..." if unknown else "") + ". "
            "Use human gene symbols or Ensembl ids as var_names, and give all genes that were "
            "measured; or take a model for this panel of genes."
        )
