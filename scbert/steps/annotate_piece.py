"""Rule annotate_piece: a piece of a large file of cells + a model -> the model's answers for it."""

import tempfile
from pathlib import Path

from scbert.cells.how_to_read import HowToRead, read_piece
from scbert.cells.query import open_query
from scbert.cells.scale import Scale
from scbert.config import DeviceName, QuerySettings
from scbert.files import read_json
from scbert.training.answers import each_answer, save_answers
from scbert.training.calls import finetuned
from scbert.training.devices import choose_device
from scbert.training.query_tokens import reading_for, tokens_for


def annotate_piece(
    query: Path,
    model: Path,
    scale: Path,
    piece: str,
    settings: QuerySettings,
    answers: Path,
    device: DeviceName,
) -> None:
    """Ask a model of some of the cells of a file; `gather_query` makes calls of the answers.

    Parameters
    ----------
    scale
        What `look_at_query` wrote.
    piece
        Which piece, as Snakemake calls it: 2-of-8.
    answers
        The file to write.
    """
    here = choose_device(device)
    loaded = finetuned(model)
    reading = reading_for(HowToRead.of(settings), loaded)
    with (
        tempfile.TemporaryDirectory(dir=answers.parent) as folder,
        open_query(query, reading, Path(folder), str(query)) as opened,
    ):
        tokens = tokens_for(opened, loaded, Scale(**read_json(scale)))
        mine = read_piece(piece)
        save_answers(answers, each_answer(tokens, loaded, here, piece=mine), mine, loaded)
