"""scbert explain: cells + a fine-tuned model -> an explanation."""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from scbert.cells.cautions import Caution, by_code, say
from scbert.cells.how_to_read import HowToRead
from scbert.cells.labels import labels_for
from scbert.cells.query import open_query
from scbert.config import DeviceName, Explain
from scbert.evidence.explained import Explained
from scbert.explain.chosen_cells import Candidates, choose_cells
from scbert.explain.enrichment import read_known_genes
from scbert.explain.explain_cells import explain_cells
from scbert.explain.explanation import write_explanation
from scbert.training.calls import finetuned
from scbert.training.devices import choose_device
from scbert.training.query_tokens import reading_for, tokens_for
from scbert.training.saved_model import FinetunedModel

log = logging.getLogger(__name__)


def explain_file(
    query: Path,
    model: Path,
    out: Path,
    *,
    label_key: str,
    reading: HowToRead,
    settings: Explain,
    device: DeviceName,
) -> Explained:
    """Explain the labels of a file's cells: those of a column, or those that the model gives.

    Parameters
    ----------
    query
        Cells as `annotate` takes them.
    out
        The folder to write; an explanation that is there already is replaced.
    label_key
        Column of obs with labels of the model; empty: the labels that the model gives.
    settings
        Its markers, marker_types and gene_sets are paths.
    device
        See `choose_device`.

    Returns
    -------
    What stands in explanation.json.

    Raises
    ------
    ValueError
        If the cells cannot be used, fewer than two types have cells, or `out` is another folder.
    """
    _refuse_other_folder(out)
    here = choose_device(device)  # before the reading, which may take long
    loaded = finetuned(model)
    candidates, cautions = _read(query, reading, label_key, loaded)
    chosen_cells = choose_cells(candidates, loaded, settings, here)
    chosen_cells = replace(chosen_cells, warnings=by_code(cautions))
    known = read_known_genes(
        loaded,
        markers=[Path(file) for file in [settings.markers] if file],
        marker_types=[Path(file) for file in [settings.marker_types] if file],
        gene_sets=[Path(file) for file in settings.gene_sets],
    )
    return write_explanation(out, explain_cells(chosen_cells, known, settings))


def _refuse_other_folder(out: Path) -> None:
    if out.exists() and not (out / "explanation.json").is_file():
        raise ValueError(
            f"{out} exists but was not written by scbert explain, so it is not "
            "replaced. Give a new folder."
        )


def _read(
    query: Path, reading: HowToRead, label_key: str, model: FinetunedModel
) -> tuple[Candidates, list[Caution]]:
    """Read the cells, perhaps with their labels, and say what makes the result less sure."""
    labels: np.ndarray | None = None
    of_labels: list[Caution] = []
    columns, wanted = [label_key] if label_key else [], reading_for(reading, model)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_query(query, wanted, Path(folder), str(query), columns=columns) as opened,
    ):
        if label_key:
            column, of_labels = labels_for(opened.obs[label_key], label_key, model.types)
            say(of_labels, str(query), log)
            labels = column.to_numpy(dtype=str)
        store, of_cells = tokens_for(opened, model).store()
    candidates = Candidates(query.stem, store, np.arange(len(store)), labels)
    return candidates, [*of_cells, *of_labels]
