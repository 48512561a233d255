"""Cells to be annotated -> tokens of a model, a part of the cells at a time."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.amounts import Amounts, amounts_of
from scbert.cells.cautions import Caution, say
from scbert.cells.how_to_read import WHOLE, HowToRead, Piece, Wanted
from scbert.cells.query import QueryCells
from scbert.cells.query_cautions import (
    contradicting_names,
    empty_cells,
    few_genes,
    few_known_counts,
    missing_expression,
)
from scbert.cells.read import gene_names
from scbert.cells.scale import Scale
from scbert.config import Normalization
from scbert.genes.matching import GeneMatch, match_genes, species_of
from scbert.tokens.store import TokenStore, store_in_memory
from scbert.tokens.tokenize import Sample, expression_of_counts, tokenize
from scbert.training.depth import Depth, DepthSeen
from scbert.training.library_size import cautions_of_library
from scbert.training.saved_model import FinetunedModel, SavedModel

log = logging.getLogger(__name__)
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

    @property
    def empty(self) -> int:
        """The number of its cells that have no token, so that the model sees nothing of them."""
        return int((np.diff(self.sample.levels.indptr) == 0).sum())


@dataclass(frozen=True)
class QueryTokens:
    """Cells that a model can take, and what is to be known of them."""

    query: QueryCells
    model: SavedModel
    match: GeneMatch
    amounts: Amounts
    cautions: tuple[Caution, ...]

    @property
    def scale(self) -> Scale:
        """What the matrix holds."""
        return self.amounts.scale

    @cached_property
    def share_of_counts(self) -> float:
        """What part of a cell's counts of known genes the file has; 1: all counts are known."""
        share = 1 - _missing(self.match, self.model)
        return share if self.amounts.summed and share > 0 else 1.0

    def each(self, piece: Piece = WHOLE) -> Iterator[TokenPart]:
        """Yield the parts of a piece in order; only one of them is in memory.

        Raises
        ------
        ValueError
            If a part is damaged, or has more counts than its library.
        """
        for start, part in self.query.parts.each(piece):
            try:
                yield self._tokens(start, part)
            except ValueError as error:
                last = start + part.shape[0] - 1
                raise ValueError(
                    f"cells {start} to {last} of {self.query.name}: {error}"
                ) from error

    def store(self) -> tuple[TokenStore, list[Caution]]:
        """Return the tokens of all cells, in memory, and the warnings about them."""
        seen, samples = CellsSeen(self), []
        for part in self.each():
            seen.add(part)
            samples.append(part.sample)
        whole = replace(
            samples[0],
            cells=[cell for sample in samples for cell in sample.cells],
            levels=sparse.vstack([sample.levels for sample in samples], format="csr"),
            below_one=sum(sample.below_one for sample in samples),
        )
        return store_in_memory(whole), [*self.cautions, *seen.cautions()]

    def _tokens(self, start: int, part: sparse.csr_matrix) -> TokenPart:
        rows = slice(start, start + part.shape[0])
        normalization = normalization_of(self.model)
        linear, library = self.amounts.of(part, rows)
        expression = expression_of_counts(
            linear, library, self.match, normalization, share=self.share_of_counts
        )
        sample = tokenize(
            self.query.name,
            self.query.obs.index[rows].astype(str).tolist(),
            expression,
            self.match.measured,
            n_bins=self.model.config["n_bins"],
        )
        known = linear.data[self.match.index[linear.indices] >= 0]
        return TokenPart(start, sample, float(known.sum()), float(linear.sum()))


def tokens_for(query: QueryCells, model: SavedModel, scale: Scale | None = None) -> QueryTokens:
    """Find out what the matrix holds and which of its genes the model knows.

    All of the matrix is read once: what cannot be used is refused before hours are spent on it.
    That is left out if its `scale` is known.

    Raises
    ------
    ValueError
        If the cells cannot be used or share too few genes with the model.
    """
    match = match_query(query, model)
    require_overlap(match, model, query)
    usual = normalization_of(model).target_sum
    amounts = amounts_of(
        query.parts, query.obs, query.reading, query.name, usual=usual, scale=scale
    )
    of_genes = few_genes(*overlap(match, model)) or missing_expression(
        _missing(match, model), summed=amounts.summed
    )
    of_names = contradicting_names(len(match.contradicting), match.paired, match.contradicting)
    key, measured = query.reading.library_size_key, match.measured_row
    of_library = cautions_of_library(query.parts, amounts, key, measured, model)
    cautions = (*of_names, *of_genes, *amounts.cautions, *of_library)
    say(cautions, query.name, log)
    log.info(
        "%s: %s holds %s; %d of %d genes are known to the model (%d by Ensembl id, %d by symbol, "
        "%d by an older name or alias)",
        *(query.name, query.found, amounts.scale, match.matched, len(match.index)),
        *(match.by_id, match.by_symbol, match.by_alias),
    )
    return QueryTokens(query, model, match, amounts, cautions=cautions)


def _missing(match: GeneMatch, model: SavedModel) -> float:
    """Return the share of the training cells' counts that is of genes not measured."""
    if not isinstance(model, FinetunedModel) or model.components is None:
        return 0.0
    return 1 - model.components.share_of_counts(match.measured_row)


def normalization_of(model: SavedModel) -> Normalization:
    """Return how a model's cells are normalised."""
    return Normalization.model_validate(model.config["normalization"])


def reading_for(reading: HowToRead, model: SavedModel) -> HowToRead:
    """Let the matrix be chosen by the genes that a model uses."""
    return replace(reading, wanted=Wanted(partial(_covered, model), "of the model's genes"))


def _covered(model: SavedModel, genes: pd.DataFrame) -> int:
    return overlap(match_genes(gene_names(genes), model.genes), model)[0]


class CellsSeen:
    """What only all cells say, added up part by part: counts of known genes and of all, depth.

    `empty` counts the cells of which the model sees nothing.
    """

    def __init__(self, tokens: QueryTokens) -> None:
        self.match, self.name, self.n_cells = tokens.match, tokens.query.name, len(tokens.query)
        self.known = self.counts = 0.0
        self.empty = 0
        guessed, measured = tokens.amounts.guessed, tokens.match.measured
        self._depth = DepthSeen(tokens.model, measured[:0] if guessed else measured)

    def add(self, part: TokenPart) -> None:
        """Add the cells of a part."""
        self.add_counts(part.known_counts, part.counts, part.empty)
        self.add_genes(self.genes_of(part))

    def add_counts(self, known: float, counts: float, empty: int) -> None:
        """Add the counts of a part, of known genes and of all, and its cells without any."""
        self.known, self.counts = self.known + known, self.counts + counts
        self.empty += empty

    def genes_of(self, part: TokenPart) -> np.ndarray:
        """Return how many of the compared genes each cell of a part expresses, int64 (cells,)."""
        return self._depth.genes_of(part.sample)

    def add_genes(self, genes: np.ndarray) -> None:
        """Add the result of `genes_of` for more cells."""
        self._depth.add(genes)

    @property
    def share(self) -> float:
        """The share of the counts that is of known genes."""
        return self.known / self.counts

    @property
    def depth(self) -> Depth | None:
        """How deep the cells are, beside the training cells; None: they cannot be compared."""
        return self._depth.found()

    def cautions(self) -> list[Caution]:
        """Log the share, and warn if it is small or cells are shallow or empty."""
        log.info(
            "%s: %.1f%% of the counts are of genes that the model knows",
            *(self.name, 100 * self.share),
        )
        found = few_known_counts(self.share, self.match.unmatched)
        found += empty_cells(self.empty, self.n_cells)
        found += self.depth.cautions() if self.depth else []
        say(found, self.name, log)
        return found


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


def require_overlap(match: GeneMatch, model: SavedModel, query: QueryCells) -> None:
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
            f"{query.parts.name} has only {found} of the {n_used} genes that the model uses "
            f"({found / n_used:.1%}), {needed:.0%} are needed; of its own {len(match.index)} genes "
            f"the model knows {match.matched}" + (f", not {unknown}, ..." if unknown else "") + ". "
            f"{_what_they_are(match, model, query)}Use human gene symbols or Ensembl ids as "
            "var_names, and give all genes that were measured; or take a model for this panel of "
            "genes." + _other_matrices(query)
        )


def _what_they_are(match: GeneMatch, model: SavedModel, query: QueryCells) -> str:
    """Say of names that are no human genes what they look like: cells, or a mouse's genes."""
    rows = match_genes(gene_names(pd.DataFrame(index=query.obs.index)), model.genes).matched
    if rows > match.matched:
        return f"{rows:,} of its rows are genes that the model knows: transpose it (adata.T). "
    return species_of(match)


def _other_matrices(query: QueryCells) -> str:
    others = query.parts.others
    return f" The file also has {', '.join(others)}: name one of them (--matrix)." if others else ""
