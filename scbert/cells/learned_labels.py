"""Warnings about labels that a model learned from, or that it is judged by; see `cautions`."""

from collections.abc import Mapping
from typing import Any

from scbert.cells.cautions import Caution


def cautions_of_learning(
    calibration: Mapping[str, Any], n_types: int, cells: Mapping[str, int]
) -> list[Caution]:
    """Return what the cells that a model learned from, and was judged by, say against it.

    Parameters
    ----------
    calibration
        Content of calibration.json of a model that scbert fine-tuned.
    cells
        Number of the labelled cells in each part.
    """
    if not calibration["validation_cells"]:
        return [_too_few_cells(n_types, sum(cells.values()))]
    return labels_not_learned(calibration["out_of_fold"])


def _too_few_cells(n_types: int, n_cells: int) -> Caution:
    return Caution(
        "too_few_cells",
        f"the model learned {n_types} types from {n_cells} cells, too few to hold any out and "
        "judge it by: its confidence is not calibrated, no cell is called unknown, and how many "
        "labels are wrong is not known.",
        "Label more cells of each type, three at least, or judge it by labelled cells that it has "
        "not seen (scbert evaluate).",
    )


def labels_not_learned(out_of_fold: Mapping[str, Any]) -> list[Caution]:
    """Labels that are named no better than shuffled ones; empty: they are, or it is not known.

    Parameters
    ----------
    out_of_fold
        The macro F1 of cells that were not learned from, and the same by chance.
    """
    chance = out_of_fold.get("by_chance")
    if chance is None or out_of_fold["macro_f1"] > chance["high"]:
        return []
    if chance["high"] == 1:  # of a handful of cells, so that nothing could be better
        return []
    found = out_of_fold["macro_f1"]
    return [
        Caution(
            "labels_not_learned",
            f"the model names cells that it has not learned from no better than by chance: macro "
            f"F1 {found:.3f}; of 1,000 shuffles of the labels {chance['macro_f1']:.3f} on average "
            f"and {chance['high']:.3f} at most. Its labels mean nothing.",
            "Look whether each type expresses its markers: the labels may be of other cells, "
            "sorted or joined in another order; or the cells are too few.",
        )
    ]


def rare_types(counts: Mapping[str, int], fewest: int) -> Caution:
    """Types of so few cells that none is held out."""
    listed = ", ".join(f"'{name}' ({n})" for name, n in counts.items())
    return Caution(
        "rare_types",
        f"fewer than {fewest} cells of {listed}: the model learns them, but none or hardly any is "
        "held out, so that nothing is known of how well it names them.",
        "Add cells of these types, merge them with others, or remove them.",
    )


def labels_by_chance(found: float, chance: Mapping[str, float]) -> list[Caution]:
    """Labels to be scored by with which the model agrees no more than by chance; empty: it does.

    Parameters
    ----------
    found
        The macro F1.
    chance
        The same where the labels are shuffled: macro_f1, the mean, and high, the highest.
    """
    if found > chance["high"]:
        return []
    return [
        Caution(
            "labels_by_chance",
            f"the model agrees with these labels no better than by chance: macro F1 {found:.3f}; "
            f"of 1,000 shuffles of them {chance['macro_f1']:.3f} on average and "
            f"{chance['high']:.3f} at most. These are no scores of the model.",
            "Look whether each type expresses its markers: the labels may be of other cells, "
            "sorted or joined in another order.",
        )
    ]
