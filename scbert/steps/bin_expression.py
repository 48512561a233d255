"""Rule bin_expression: expression -> a token store. Needs no torch."""

import logging
from functools import partial
from pathlib import Path

from scbert.config import Binning
from scbert.files import sha256_of
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.provenance import provenance
from scbert.tokens.store_files import StoreMeta
from scbert.tokens.store_writer import SampleSource, write_store
from scbert.tokens.tokenize import read_tokens

log = logging.getLogger(__name__)
TOOLS = ("scbert-end-to-end", "anndata", "numpy", "pandas", "scipy")


def bin_expression(
    expressions: list[Path], vocabulary: Path, tokens: Path, settings: Binning
) -> None:
    """Write the tokens of one or more files of expression as one store.

    Raises
    ------
    ValueError
        If a file does not hold expression, or was made with another vocabulary, or no file has a
        cell.
    """
    genes = read_vocabulary(vocabulary)
    ran = provenance()
    meta: StoreMeta = {
        "store": tokens.name,
        "n_bins": settings.n_bins,
        "vocabulary_sha256": vocabulary_sha256(genes),
        "vocabulary_size": len(genes),
        "versions": {"python": ran["python"]}
        | {name: ran["packages"][name] for name in TOOLS if name in ran["packages"]},
    }
    read = partial(read_tokens, n_bins=settings.n_bins, vocabulary=genes)
    sources = [
        SampleSource(path.stem, sha256_of(path), partial(read, path)) for path in expressions
    ]
    written = write_store(tokens, sources, meta)
    log.info("%s: %s", tokens.name, _said(written))


def _said(written: StoreMeta) -> str:
    """Say how the expressed genes of the cells share the bins."""
    bins = {name: n for name, n in written["bins"].items() if n}
    total = max(sum(bins.values()), 1)
    shares = ", ".join(f"{name}: {n / total:.0%}" for name, n in bins.items())
    return (
        f"{written['cells']:,} cells, {written['tokens']:,} tokens; share of the expressed genes "
        f"in each bin: {shares}"
    )
