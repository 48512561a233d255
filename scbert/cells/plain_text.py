"""Text as str objects, whatever pandas or the file held: anndata 0.12 reads and writes no other.

Since version 3 pandas has a type of its own for text (StringDtype), and anndata since 0.13 writes
it by default, as nullable-string-array. Beside text of the other kind neither reads the whole.
"""

from collections.abc import Callable, Mapping
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, write_elem

NULLABLE = "nullable-string-array"


def plain_values(values: Any) -> Any:
    """Return a column, index or array with text as str objects (missing: NaN), or what it was."""
    if isinstance(values, pd.Categorical):
        categories = plain_index(values.categories)
        if categories is values.categories:
            return values
        return pd.Categorical.from_codes(values.codes, categories, ordered=values.ordered)
    if isinstance(getattr(values, "dtype", None), pd.StringDtype):
        objects = np.array(values, dtype=object)
        return np.where(pd.isna(objects), np.nan, objects)
    return values


def plain_index(index: pd.Index) -> pd.Index:
    """Return names as str objects, or the index as it was."""
    if not isinstance(index.dtype, pd.StringDtype):
        return index
    return pd.Index(plain_values(index), dtype=object, name=index.name)


def plain_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with text as str objects in index, columns and names of columns."""
    changed = {}
    for name, column in table.items():
        values = column.array
        if plain_values(values) is not values:
            changed[name] = plain_values(values)
    index, columns = plain_index(table.index), plain_index(table.columns)
    if not changed and index is table.index and columns is table.columns:
        return table
    table = table.copy()
    for name, values in changed.items():
        table[name] = values
    return table.set_axis(index, axis=0).set_axis(columns, axis=1)


def make_plain(adata: ad.AnnData) -> None:
    """Make all text of an AnnData plain, in place."""
    for side in ("obs", "var"):
        table = plain_table(getattr(adata, side))
        if table is not getattr(adata, side):
            setattr(adata, side, table)
    for tables in (adata.obsm, adata.varm):
        for key, values in tables.items():
            if isinstance(values, pd.DataFrame) and plain_table(values) is not values:
                tables[key] = plain_table(values)
    if adata.raw is not None and plain_table(adata.raw.var) is not adata.raw.var:
        raw = ad.AnnData(adata.raw.X, obs=adata.obs[[]], var=plain_table(adata.raw.var))
        raw.varm.update(adata.raw.varm)
        adata.raw = raw
    for key, values in adata.uns.items():
        adata.uns[key] = _plain_entry(values)


def _plain_entry(entry: Any) -> Any:
    if isinstance(entry, Mapping):
        return {key: _plain_entry(values) for key, values in entry.items()}
    return plain_table(entry) if isinstance(entry, pd.DataFrame) else plain_values(entry)


def make_file_plain(file: h5py.File, name: str) -> None:
    """Make all text of an .h5ad file plain, in place; text with missing values gets categories.

    Raises
    ------
    ValueError
        If the file, which is called `name`, is damaged.
    """
    nullable: list[str] = []

    def look(place: str, found: Any) -> None:
        if isinstance(found, h5py.Group) and found.attrs.get("encoding-type") == NULLABLE:
            nullable.append(place)

    try:
        _look_at_parts(file, look)
        for place in nullable:
            values = plain_values(read_elem(file[place]))
            write_elem(file, place, pd.Categorical(values) if pd.isna(values).any() else values)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is damaged ({error}). Write or download it again.") from error


def _look_at_parts(file: h5py.File, look: Callable[[str, Any], None]) -> None:
    for part in ("obs", "var", "obsm", "varm", "raw", "uns"):
        if part in file and isinstance(file[part], h5py.Group):
            file[part].visititems(lambda place, found, part=part: look(f"{part}/{place}", found))
