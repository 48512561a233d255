"""Batches of labelled cells: donors, laboratories or studies, as people write them."""

import pandas as pd

from scbert.cells.cautions import Caution, quoted_groups
from scbert.cells.labels import alike_names, clean_labels

FEWEST_CELLS = 20  # with a type: fewer may well be of as many donors
ALONE = 0.5  # share of the cells that are the only one of their batch


def clean_batches(
    column: pd.Series, labels: pd.Series, key: str, name: str
) -> tuple[pd.Series, list[Caution]]:
    """Return batches without spaces around them, and what is to be known of them.

    Parameters
    ----------
    column, key
        A column of obs, and its name.
    labels
        The types of the cells, shape (cells,); empty: no labelled cell, which needs no batch.
    name
        What to call the file in errors.

    Raises
    ------
    ValueError
        If a labelled cell has no batch, or most of 20 or more have one of their own.
    """
    batch, _ = clean_labels(column, key)
    labelled = batch[labels != ""]
    missing = int((labelled == "").sum())
    if missing:
        raise ValueError(
            f"obs['{key}'] of {name} is empty, or text such as 'nan', in {missing} cells, but each "
            "cell with a type needs a batch: whole ones are held out, or scored. Fill it in, or "
            "leave batch_key empty."
        )
    _require_batches(labelled, key, name)
    alike = alike_names(set(labelled))
    return batch, [alike_batches(alike, key)] if alike else []


def _require_batches(batch: pd.Series, key: str, name: str) -> None:
    """Refuse a column of cell ids or of measurements: what is tested would be no new batch."""
    alone = int((~batch.duplicated(keep=False)).sum())
    if len(batch) < FEWEST_CELLS or alone <= ALONE * len(batch):
        return
    raise ValueError(
        f"obs['{key}'] of {name} looks like ids of cells or a measurement: {alone:,} of the "
        f"{len(batch):,} cells with a type have a value that no other has. A batch is a donor, "
        "laboratory or study with many cells, of which the test says how well others are named. "
        "Name that column, or leave batch_key empty."
    )


def alike_batches(groups: list[tuple[str, ...]], key: str) -> Caution:
    """Batches that differ in nothing but their case."""
    return Caution(
        "alike_batches",
        f"obs['{key}'] holds batches that differ only in capitals or spaces "
        f"({quoted_groups(groups)}): they are taken as different batches. If they are the same, "
        "its cells can be in both training and test, and scores are too high.",
        "Spell them alike if they are the same batch.",
    )
