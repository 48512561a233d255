"""Warnings about labels that a model learned from, or that it is judged by; see `cautions`."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from scbert.cells.cautions import AND_MORE, Caution, some
from scbert.cells.labels import without_capitals

# Where scores can tell a model from guesses. In draws of types of equal size, at most one in ten
# models that name eight of ten cells rightly is then taken for one that guesses: of two types that
# takes 60 cells, of three 21. Of fewer most models look so, also good ones.
FEWEST_JUDGED = 20  # cells
HIGHEST_BY_CHANCE = 0.7  # macro F1, of the best of the shuffles
BY_VALIDATION = "validation cells"  # of the values of threshold_from
LABEL_MORE = (
    "Label more cells of each type, three at least, or judge it by labelled cells that it has not "
    "seen (scbert evaluate)."
)
FEWEST_NAMED = 5  # cells of a label; of fewer, one or two names would be most of them


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
    validation = calibration["validation_cells"]
    held_out = calibration["out_of_fold"]["cells"] if validation else 0
    if held_out < 2 * n_types:
        return [_too_few_cells(n_types, sum(cells.values()), held_out)]
    found = labels_not_learned(calibration["out_of_fold"])
    if validation < n_types and calibration.get("threshold_from", BY_VALIDATION) == BY_VALIDATION:
        found.append(_few_for_threshold(n_types, validation))
    return found


def _too_few_cells(n_types: int, n_cells: int, held_out: int) -> Caution:
    found = (
        f"the model learned {n_types} types from {n_cells} cells, too few to hold any out and "
        "judge it by: its confidence is not calibrated, no cell is called unknown, and how many "
        "labels are wrong is not known."
    )
    if held_out:
        found = (
            f"the model learned {n_types} types from {n_cells} cells, and only {held_out} could be "
            "held out to calibrate and judge it by, fewer than two of each type: its confidence, "
            "which cells it calls unknown and its scores rest on hardly any cell."
        )
    return Caution("too_few_cells", found, LABEL_MORE)


def _few_for_threshold(n_types: int, validation: int) -> Caution:
    return Caution(
        "too_few_cells",
        f"{validation} validation cells set from when on a cell is called unknown, fewer than the "
        f"{n_types} types: which cells are rests on hardly any cell.",
        LABEL_MORE,
    )


def labels_not_learned(out_of_fold: Mapping[str, Any]) -> list[Caution]:
    """Labels that are named no better than shuffled ones; empty: they are, or it is not known.

    Parameters
    ----------
    out_of_fold
        The macro F1 of cells that were not learned from, and the same by chance.
    """
    chance = out_of_fold.get("by_chance")
    if chance is None:
        return []
    found, n_cells = out_of_fold["macro_f1"], out_of_fold["cells"]
    n_types = sum(f1 is not None for f1 in out_of_fold["f1_of_type"])
    if not _is_by_chance(found, chance, n_cells, n_types):
        return []
    return [
        Caution(
            "labels_not_learned",
            f"the model names {n_cells:,} cells that it has not learned from no better than by "
            f"chance: macro F1 {found:.3f}; of 1,000 shuffles of the labels "
            f"{chance['macro_f1']:.3f} on average and {chance['high']:.3f} at most. As far as "
            "these cells tell, its labels mean nothing.",
            "Look whether each type expresses its markers: the labels may be of other cells, "
            "sorted or joined in another order; or the cells are too few.",
        )
    ]


def _is_by_chance(found: float, chance: Mapping[str, float], n_cells: int, n_types: int) -> bool:
    """Whether cells are named no better than by chance; never where so few cells cannot tell.

    The order of the labels of a single type is the same after each shuffle.
    """
    tells = n_types > 1 and n_cells >= FEWEST_JUDGED and chance["high"] <= HIGHEST_BY_CHANCE
    return tells and found <= chance["high"]


def rare_types(counts: Mapping[str, int], fewest: int) -> Caution:
    """Types of so few cells that none is held out."""
    listed = ", ".join(f"'{name}' ({n})" for name, n in counts.items())
    return Caution(
        "rare_types",
        f"fewer than {fewest} cells of {listed}: the model learns them, but none or hardly any is "
        "held out, so that nothing is known of how well it names them.",
        "Add cells of these types, merge them with others, or remove them.",
    )


def types_not_learned(cells: Mapping[str, int], learned: Collection[str]) -> list[Caution]:
    """Types that no cell has that the model learns from; empty: it learns all.

    Parameters
    ----------
    cells
        Number of cells of each type, in all parts.
    learned
        The model's types.
    """
    lacking = {name: n for name, n in cells.items() if name not in learned}
    if not lacking:
        return []
    by_size = sorted(lacking, key=lambda name: (-lacking[name], name))
    listed = ", ".join(f"'{name}' ({lacking[name]:,})" for name in by_size)
    return [
        Caution(
            "types_not_learned",
            f"the model does not learn {listed}: all cells of these types are in batches that are "
            "held out, so it cannot name them, and they count as new types.",
            "Choose another batch_key, in which each type is in several batches, or hold out no "
            "test (--no-test).",
        )
    ]


def labels_by_chance(
    found: float, chance: Mapping[str, float], *, n_cells: int, n_types: int
) -> list[Caution]:
    """Labels to be scored by with which the model agrees no more than by chance; empty: it does.

    Parameters
    ----------
    found
        The macro F1.
    chance
        The same where the labels are shuffled: macro_f1, the mean, and high, the highest.
    n_cells, n_types
        Of how many cells, and how many types they have.
    """
    if not _is_by_chance(found, chance, n_cells, n_types):
        return []
    return [
        Caution(
            "labels_by_chance",
            f"the model agrees with the labels of the {n_cells:,} cells of types that it knows no "
            f"better than by chance: macro F1 {found:.3f}; of 1,000 shuffles of them "
            f"{chance['macro_f1']:.3f} on average and {chance['high']:.3f} at most. These are no "
            "scores of the model.",
            "Look whether each type expresses its markers: the labels may be of other cells, "
            "sorted or joined in another order.",
        )
    ]


def labels_not_in_model(named: pd.DataFrame, types: list[str], key: str) -> list[Caution]:
    """Labels that may be types of the model under other names; empty: none looks so.

    Most cells of such a label are named as types that no cell is labelled with, and are not called
    unknown or have a name that begins like the label. So no new type beside all known ones is
    warned of, nor one that the model does not take for its own; nor are those that differ in
    capitals alone, see `compare_with_model`.

    Parameters
    ----------
    named
        Columns cell_type, scbert_label and scbert_is_unknown.
    types
        Those of the model.
    """
    label, name = named.cell_type.astype(str), named.scbert_label.astype(str)
    spelled = {without_capitals(one) for one in types}
    other = ~label.map(without_capitals).isin(spelled)
    absent = name.isin(set(types) - set(label))
    alike = np.array([_begin_alike(*pair) for pair in zip(label, name, strict=True)])
    taken_for = name.where(other & absent & (~named.scbert_is_unknown | alike))
    found = []
    for own, names in taken_for.groupby(label):
        if len(names) >= FEWEST_NAMED and 2 * names.count() > len(names):
            most = names.mode().iloc[0]
            found.append(f"'{own}' ({len(names):,} cells, most often named '{most}')")
    if not found:
        return []
    return [
        Caution(
            "labels_not_in_model",
            f"obs['{key}'] holds labels that the model does not know, but it names their cells as "
            f"types that no cell is labelled with: {some(found, AND_MORE)}. These cells are not "
            "scored, but counted as new types.",
            "Spell the labels as the model does if they are the same types.",
        )
    ]


def _begin_alike(one: str, other: str) -> bool:
    """Whether one of two names, without signs and capitals, is the beginning of the other."""
    first, second = (
        "".join(letter for letter in name.lower() if letter.isalnum()) for name in (one, other)
    )
    return bool(first and second) and (first.startswith(second) or second.startswith(first))
