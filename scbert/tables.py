"""Small tab-separated tables, always read as text."""

from pathlib import Path

import pandas as pd

from scbert.files import publish


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a tab-separated table as text and make sure that it has the columns.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table.columns = table.columns.str.strip()  # of Excel or an editor
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(table.columns)}. "
            f"Needed: {', '.join(columns)}, separated by tabs."
        )
    return table


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a tab-separated table without its index."""
    with publish(path) as unfinished:
        table.to_csv(unfinished, sep="\t", index=False)
