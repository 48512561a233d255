"""Rule gather_query: a large file + a model's answers for its pieces -> the annotated file."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad

from scbert.cells.how_to_read import HowToRead
from scbert.cells.query import QueryCells
from scbert.cells.result import write_result
from scbert.cells.scale import Scale
from scbert.config import QuerySettings
from scbert.files import read_json
from scbert.training.answers import load_answers
from scbert.training.calls import STALE, calls_of, finetuned
from scbert.training.query_tokens import reading_for, tokens_for


def gather_query(
    query: Path,
    model: Path,
    scale: Path,
    answers: Sequence[Path],
    settings: QuerySettings,
    annotated: Path,
) -> None:
    """Write the file that `scbert annotate` would write.

    What rests on all cells together, warnings and the vote of clusters, is found here.

    Parameters
    ----------
    scale
        What `look_at_query` wrote.
    answers
        What `annotate_piece` wrote of each piece.

    Raises
    ------
    ValueError
        If they are not all pieces of this file, by this model.
    """
    loaded = finetuned(model)
    known, key = Scale(**read_json(scale)), settings.cluster_key

    def make(opened: QueryCells) -> ad.AnnData:
        found = load_answers(answers, len(opened), loaded)
        return calls_of(found, tokens_for(opened, loaded, known), loaded, cluster_key=key)

    reading = reading_for(HowToRead.of(settings), loaded)
    write_result(query, annotated, reading, make, columns=[key] if key else [], stale=STALE)
