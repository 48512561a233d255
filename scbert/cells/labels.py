"""Labels of cells as people write them: with spaces around them, or with 'nan' for none."""

import pandas as pd

from scbert.cells.cautions import Caution
from scbert.cells.label_cautions import (
    alike_labels,
    missing_labels,
    spelled_otherwise,
    trimmed_labels,
)

MISSING = ("nan", "na", "n/a", "none", "null", "<na>")  # in any case


def clean_labels(column: pd.Series, key: str) -> tuple[pd.Series, list[Caution]]:
    """Return labels without spaces around them, empty where there is none, and what was done.

    Parameters
    ----------
    column, key
        A column of obs, and its name.
    """
    written = column.astype(object).where(column.notna(), "").astype(str)
    labels = written.str.strip()
    missing = labels.str.lower().isin(MISSING)
    counts = labels[missing].value_counts()
    names = set(labels[~missing]) - {""}
    trimmed = sorted(set(written[(written != labels) & (labels != "")]))
    alike = _alike(names)
    cautions = []
    if len(counts):
        cautions.append(missing_labels({str(text): int(n) for text, n in counts.items()}, key))
    if trimmed:
        cautions.append(trimmed_labels(trimmed, key))
    if alike:
        cautions.append(alike_labels(alike, key))
    return labels.where(~missing, ""), cautions


def labels_for(column: pd.Series, key: str, types: list[str]) -> tuple[pd.Series, list[Caution]]:
    """Return clean labels that are to be those of a model, and what is to be known of them."""
    labels, cautions = clean_labels(column, key)
    return labels, [*cautions, *compare_with_model(labels, types, key)]


def compare_with_model(labels: pd.Series, types: list[str], key: str) -> list[Caution]:
    """Warn of labels that are those of a model in other capitals."""
    of_model = {_plain(name): name for name in types}
    others = sorted(set(labels) - set(types) - {""})
    found = [name for name in others if _plain(name) in of_model]
    pairs: list[tuple[str, ...]] = [(name, of_model[_plain(name)]) for name in found]
    return [spelled_otherwise(pairs, key)] if pairs else []


def _alike(names: set[str]) -> list[tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_plain(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _plain(name: str) -> str:
    return " ".join(name.lower().split())
