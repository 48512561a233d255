"""Small tab-separated tables, always read as text."""

import warnings
from pathlib import Path

import pandas as pd
from pandas.errors import ParserWarning

from scbert.files import DAMAGE, open_decompressed, publish


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a tab-separated table, compressed or not, as text; it must have the columns.

    Raises
    ------
    ValueError
        If a column is missing, a line has more values than there are columns, or it is no text.
    """
    with open_decompressed(path) as handle:  # outside: a file that is not there says so itself
        try:
            with warnings.catch_warnings(action="error", category=ParserWarning):
                table = pd.read_csv(
                    handle,
                    sep="\t",
                    dtype=str,
                    keep_default_na=False,
                    index_col=False,  # else longer lines would move all values by a column
                )
        except (ValueError, ParserWarning, *DAMAGE) as error:  # ValueError: also what is not UTF-8
            raise ValueError(
                f"{path} is not a table of {', '.join(columns)}, separated by tabs, in UTF-8 "
                f"({str(error).strip()}). Correct it, or make it again."
            ) from error
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
