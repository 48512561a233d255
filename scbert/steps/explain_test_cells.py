"""Rule explain_test_cells: the test cells of a dataset + its model -> an explanation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scbert.config import DeviceName, Explain
from scbert.explain.chosen_cells import Candidates, choose_cells
from scbert.explain.enrichment import read_known_genes
from scbert.explain.explain_cells import explain_cells
from scbert.explain.explanation import write_explanation
from scbert.tables import read_table
from scbert.tokens.store import open_store
from scbert.training.calls import finetuned
from scbert.training.devices import choose_device


def explain_test_cells(
    tokens: Path,
    split: Path,
    model: Path,
    markers: Sequence[Path],
    marker_types: Sequence[Path],
    gene_sets: Sequence[Path],
    explanation: Path,
    settings: Explain,
    device: DeviceName,
) -> None:
    """Explain the labels that a model gives to the test cells of a dataset.

    Parameters
    ----------
    tokens
        Token store of the dataset.
    markers, marker_types
        PanglaoDB's list of markers and a table of labels; at most one each.
    explanation
        The folder to write.
    device
        See `choose_device`.
    """
    loaded, store = finetuned(model), open_store(tokens)
    part = read_table(split, "cell", "part").set_index("cell").part
    rows = np.flatnonzero((part[store.cell_names()] == "test").to_numpy())
    candidates = Candidates(split.stem, store, rows)
    chosen_cells = choose_cells(candidates, loaded, settings, choose_device(device))
    known = read_known_genes(loaded, markers, marker_types, gene_sets)
    write_explanation(explanation, explain_cells(chosen_cells, known, settings))
