"""Where a file of the tables comes from, and what it is called once it is here."""

from urllib.parse import urlsplit

PACKAGE = "package:"
WEB = ("http://", "https://")
CELLS = (".h5ad", ".h5", ".csv")
TABLES = (".csv", ".gmt", ".gz", ".parquet", ".tsv", ".txt")  # of genes, gene sets, pairs
ARCHIVES = (".tar.gz", ".tgz")


def is_fetched(file: str) -> bool:
    """Whether a file must be brought here: from an installed package or from the network."""
    return file.startswith((PACKAGE, *WEB))


def fetched_suffix(file: str, suffixes: tuple[str, ...] = CELLS) -> str:
    """Return the suffix of a fetched file below resources/; empty if it is a folder (10x mtx).

    An address that does not end in the name of its file can be given that name behind a #.

    Raises
    ------
    ValueError
        If the address ends in nothing that is known.
    """
    if file.startswith(PACKAGE):
        return "." + file.rpartition(".")[2]
    parts = urlsplit(file)
    for end in (parts.fragment, parts.path):
        if end.endswith((*ARCHIVES, "/")):
            return ""
        for suffix in suffixes:
            if end.endswith(suffix):
                return suffix
    raise ValueError(
        f"the address {file} ends in none of {', '.join(suffixes)} (a file), {', '.join(ARCHIVES)} "
        "(an archive of a 10x mtx folder) and / (such a folder). If it is one of these under "
        "another name, write that name behind a #: https://site.org/get?id=1#cells.h5ad"
    )
