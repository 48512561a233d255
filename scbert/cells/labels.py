"""Labels of cells as people write them, and warnings about them; see `cautions`."""

import re

import pandas as pd

from scbert.cells.cautions import Caution, quoted_groups, some

NO_TYPE = re.compile(  # labels that say what a cell is not, and would be learned as a type
    r"(?<![a-z])"
    r"(?:un(?:assigned|known|classified|determined|defined|identified|annotated|label+ed|specified)"
    r"|doublets?|multiplets?|ambiguous|low[ _-]?quality|not[ _-]?(?:assigned|determined))"
    r"(?![a-z])",
    re.IGNORECASE,
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
    alike = alike_names(names)
    unclear = labels[labels.str.contains(NO_TYPE)].value_counts()
    cautions = []
    if len(counts):
        cautions.append(missing_labels({str(text): int(n) for text, n in counts.items()}, key))
    if trimmed:
        cautions.append(trimmed_labels(trimmed, key))
    if alike:
        cautions.append(alike_labels(alike, key))
    if len(unclear):
        cautions.append(unclear_labels({str(text): int(n) for text, n in unclear.items()}, key))
    return labels.where(~missing, ""), cautions


def labels_for(column: pd.Series, key: str, types: list[str]) -> tuple[pd.Series, list[Caution]]:
    """Return clean labels that are to be those of a model, and what is to be known of them."""
    labels, cautions = clean_labels(column, key)
    return labels, [*cautions, *compare_with_model(labels, types, key)]


def compare_with_model(labels: pd.Series, types: list[str], key: str) -> list[Caution]:
    """Warn of labels that are those of a model in other capitals."""
    of_model = {without_capitals(name): name for name in types}
    others = sorted(set(labels) - set(types) - {""})
    found = [name for name in others if without_capitals(name) in of_model]
    pairs: list[tuple[str, ...]] = [(name, of_model[without_capitals(name)]) for name in found]
    return [spelled_otherwise(pairs, key)] if pairs else []


def alike_names(names: set[str]) -> list[tuple[str, ...]]:
    """Return groups of names that differ only in capitals or spaces."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault("".join(name.lower().split()), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def without_capitals(name: str) -> str:
    """Return a name without capitals, and with one space where it has several."""
    return " ".join(name.lower().split())


def missing_labels(counts: dict[str, int], key: str) -> Caution:
    """Text that stands for a missing label."""
    listed = ", ".join(f"'{text}' ({n:,})" for text, n in counts.items())
    return Caution(
        "missing_labels",
        f"obs['{key}'] holds {listed}: these cells are taken as cells without a label and left "
        "out.",
        "Write another name if it is a cell type.",
    )


def trimmed_labels(names: list[str], key: str) -> Caution:
    """Labels with spaces around them."""
    listed = some([f"'{name}'" for name in names])
    return Caution(
        "trimmed_labels",
        f"obs['{key}'] holds {len(names)} labels with spaces around them ({listed}): "
        "leading and trailing spaces are ignored.",
        "Nothing needs to be done if that is right.",
    )


def alike_labels(pairs: list[tuple[str, ...]], key: str) -> Caution:
    """Labels that differ in nothing but their case."""
    return Caution(
        "alike_labels",
        f"obs['{key}'] holds labels that differ only in capitals or spaces "
        f"({quoted_groups(pairs)}): they are taken as different cell types.",
        "Spell them alike if they are the same type.",
    )


def unclear_labels(counts: dict[str, int], key: str) -> Caution:
    """Labels that sound as if the type of these cells were not known."""
    listed = some([f"'{name}' ({n:,})" for name, n in counts.items()])
    return Caution(
        "unclear_labels",
        f"obs['{key}'] holds {listed}: these labels sound as if no type were meant, but each is "
        "taken as a cell type.",
        "Empty the label of cells whose type is not known: they are left out then.",
    )


def repeated_cells(copies: int, n_cells: int) -> Caution:
    """Labelled cells are there more than once, under other names."""
    return Caution(
        "repeated_cells",
        f"{copies:,} of {n_cells:,} cells have exactly the same counts as another cell: where "
        "copies are in training and test, scores are too high.",
        "Keep one of each, adata[~pd.DataFrame(adata.X.toarray()).duplicated().to_numpy()], and "
        "look for files that were joined twice.",
    )


def spelled_otherwise(pairs: list[tuple[str, ...]], key: str) -> Caution:
    """Labels that are those of the model but for their case."""
    listed = "; ".join(f"'{here}' ('{there}' in the model)" for here, there in pairs[:5])
    return Caution(
        "spelled_otherwise",
        f"obs['{key}'] holds labels that differ from the model's only in capitals or spaces "
        f"within ({listed}): their cells count as types that the model does not know.",
        "Spell them as the model does.",
    )
