"""scbert inspect: what annotation would do with a file of cells; the network computes nothing."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scbert.cells.amounts import USUAL_SUM, Amounts, amounts_of
from scbert.cells.cautions import Caution, say
from scbert.cells.how_to_read import AUTOMATIC, HowToRead
from scbert.cells.query import QueryCells, open_query
from scbert.cells.read import gene_names
from scbert.genes.matching import GeneMatch
from scbert.shipped import model_folder
from scbert.training.bundle import load_model
from scbert.training.calls import cautions_of_model
from scbert.training.depth import Depth
from scbert.training.query_tokens import (
    CellsSeen,
    QueryTokens,
    least_overlap,
    match_query,
    overlap,
    reading_for,
    tokens_for,
)
from scbert.training.saved_model import FinetunedModel, PretrainedModel, SavedModel

log = logging.getLogger(__name__)
Row = tuple[str, str]


@dataclass
class Inspection:
    """What was found, as lines of a table, and why annotation would refuse it; empty: it would not.

    The lines that come after the reason for a refusal are missing. `cautions` are the warnings.
    """

    rows: list[Row] = field(default_factory=list)
    cautions: list[Caution] = field(default_factory=list)
    refusal: str = ""

    def add(self, what: str, value: str) -> None:
        """Add a line."""
        self.rows.append((what, value))

    def look_at(self, amounts: Amounts) -> None:
        """Add what the matrix holds, and the warnings about that."""
        self.add("scale", str(amounts.scale))
        self.cautions = list(amounts.cautions)


def inspect_file(query: Path, model: Path | None, *, reading: HowToRead = AUTOMATIC) -> Inspection:
    """Find out what `annotate` would make of a file, by the functions that it would use.

    Parameters
    ----------
    model
        The folder of a model; without one, only the file itself is looked at.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the model cannot be read: that says nothing about the file.
    """
    if not query.exists():
        raise FileNotFoundError(f"{query} does not exist. Check the path.")
    loaded = load_model(model_folder(model)) if model else None
    reading = reading_for(reading, loaded) if loaded else reading
    found = Inspection()
    try:
        with _opened(query, reading) as opened:
            _inspect(opened, loaded, found)
    except ValueError as error:
        found.refusal = str(error)
    return found


@contextmanager
def _opened(query: Path, reading: HowToRead) -> Iterator[QueryCells]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_query(query, reading, Path(folder), str(query)) as opened,
    ):
        yield opened


def _inspect(query: QueryCells, model: SavedModel | None, found: Inspection) -> None:
    found.add("cells", f"{len(query):,}")
    found.add("matrix", f"{query.found}, {query.parts.shape[1]:,} genes")
    if query.chosen.why:
        found.add("chosen among", query.chosen.why)
    if query.chosen.left_out:
        found.add("features that are no genes", f"left out: {query.chosen.left_out}")
    names = gene_names(query.genes)
    ids = int((names.gene_id != "").sum())
    found.add("genes with an Ensembl id", f"{ids:,} of {len(names):,}")
    if model is None:
        amounts = amounts_of(query.parts, query.obs, query.reading, query.name, usual=USUAL_SUM)
        say(amounts.cautions, query.name, log)
        found.look_at(amounts)
        return
    _add_genes(match_query(query, model), model, found)
    tokens = tokens_for(query, model)
    found.look_at(tokens.amounts)
    found.cautions = list(tokens.cautions)
    _add_tokens(tokens, found)
    if isinstance(model, FinetunedModel):
        found.cautions += cautions_of_model(model)
    if isinstance(model, PretrainedModel):
        raise ValueError("the model is pretrained only: it can embed these cells, not name them.")


def _add_genes(match: GeneMatch, model: SavedModel, found: Inspection) -> None:
    found.add("genes known by Ensembl id", f"{match.by_id:,}")
    found.add("genes known by symbol", f"{match.by_symbol:,}")
    found.add("genes known by an older name or alias", f"{match.by_alias:,}")
    found.add("genes unknown to the model", _with_examples(match.unmatched))
    found.add("of these ambiguous names", _with_examples(match.ambiguous))
    repeated = match.matched - len(match.measured)
    found.add("duplicate genes", f"{repeated:,} (counts are summed)")
    missing = np.setdiff1d(np.arange(len(model.genes)), match.measured)
    found.add(
        "vocabulary genes not in the file", _with_examples(model.genes.symbol[missing].tolist())
    )
    n, of = overlap(match, model)
    needed = least_overlap(model)
    found.add("genes that the model uses", f"{n:,} of {of:,} ({n / of:.1%}; {needed:.0%} needed)")


def _with_examples(names: list[str]) -> str:
    examples = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    return f"{len(names):,}{examples}"


def _add_tokens(tokens: QueryTokens, found: Inspection) -> None:
    """Add what is lost on the way to tokens: unknown genes, bin 0, cells without a token."""
    seen = CellsSeen(tokens)
    below_one, lengths = 0, [np.zeros(0, dtype=np.int64)]
    for part in tokens.each():
        seen.add(part)
        below_one += part.sample.below_one
        lengths.append(np.diff(part.sample.levels.indptr))
    n_tokens = np.concatenate(lengths)
    found.cautions += seen.cautions()
    found.add("share of the counts on known genes", f"{seen.share:.1%}")
    expressed = int(n_tokens.sum()) + below_one
    share = below_one / expressed if expressed else 0
    found.add("expressed, but below bin 1", f"{share:.1%} of the values of known genes")
    found.add("genes of a cell that become tokens (median)", f"{np.median(n_tokens):,.0f}")
    if isinstance(tokens.model, FinetunedModel):
        found.add("depth, beside the training cells", _depth(seen.depth))
    found.add("cells without any token", f"{seen.empty:,}")


def _depth(found: Depth | None) -> str:
    if found is None:
        return "not compared: the model keeps nothing of its training cells, or not of these genes"
    return (
        f"{found.share:.0%} (median: {found.here:,.0f} of {found.genes:,} genes are expressed; "
        f"training cells: {found.training:,.0f})"
    )
