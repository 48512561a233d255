"""Files of gene vectors: as text, read from others and written for people; what meta.json says.

Formats: `GENE<tab>` and the values, as github.com/jingcheng-du/Gene2vec publishes them, and the
text format of word2vec, which has a first line "genes values" more.
"""

from collections.abc import Iterator
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import IO, TypedDict

import numpy as np
import pandas as pd

from scbert.files import DAMAGE, JsonObject, open_decompressed, read_json
from scbert.genes.matching import vocabulary_sha256
from scbert.provenance import Provenance

LONGEST_LINE = 1_000_000  # characters; a file without line ends would otherwise fill the memory


class ImportedFile(TypedDict):
    """A file of vectors that others made, and how many genes it holds."""

    file: str
    sha256: str
    genes: int


class VectorOrigin(TypedDict):
    """What vectors were learned from, or where they were read; of no pair if they were read."""

    pairs: int
    pairs_per_sample: dict[str, int]
    imported: ImportedFile | None


class VectorsMeta(VectorOrigin):
    """Content of meta.json of a folder of gene vectors."""

    genes: int  # of the vocabulary
    genes_with_pairs: int  # that have a vector; the others have a random one
    dim: int
    epochs: int
    seed: int
    settings: JsonObject  # by key of the section gene2vec of the configuration
    vocabulary_sha256: str
    vectors_sha256: str
    no_map: str | None  # why there is no map
    nearest: dict[str, list[str]]  # the nearest genes of known ones
    provenance: Provenance


def read_text_vectors(
    path: Path, symbols: list[str], dim: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Read the vectors of some genes from a text file, plain or gzipped.

    Parameters
    ----------
    symbols
        The genes wanted, as the file spells them; others in the file are passed over.
    dim
        Values that each gene must have.

    Returns
    -------
    Vectors, shape (genes wanted, dim), float64, zero where the file has none; whether it has one,
    shape (genes wanted,); and how many genes the file holds.

    Raises
    ------
    ValueError
        Naming the line that is wrong, or if no wanted gene is there.
    """
    rows = {symbol: row for row, symbol in enumerate(symbols)}
    vectors = np.zeros((len(symbols), dim))
    first_line: dict[str, int] = {}
    with TextIOWrapper(open_decompressed(path), encoding="utf-8") as handle:
        for number, line in _numbered_lines(path, handle):
            words = line.split()
            if not words or (number == 1 and _is_header(words)):
                continue
            symbol = words[0]
            if symbol in first_line:
                raise ValueError(
                    f"{path}, line {number}: gene {symbol} is there twice, first in line "
                    f"{first_line[symbol]}. Remove one."
                )
            first_line[symbol] = number
            values = _values(path, number, words, dim)
            if symbol in rows:
                vectors[rows[symbol]] = values
    found = np.array([symbol in first_line for symbol in symbols], dtype=bool)
    if not found.any():
        raise ValueError(
            f"{path} holds {len(first_line)} genes ({', '.join(list(first_line)[:3])}), but none "
            f"of the {len(symbols)} of the vocabulary ({', '.join(symbols[:3])}). Give vectors "
            "named by human gene symbols."
        )
    return vectors, found, len(first_line)


def write_text_vectors(path: Path, symbols: list[str], vectors: np.ndarray) -> None:
    """Write `GENE<tab>value<tab>...`, a line for each gene, which `read_text_vectors` reads."""
    with path.open("w") as handle:
        for symbol, vector in zip(symbols, vectors, strict=True):
            handle.write("\t".join([symbol, *(f"{value:.6g}" for value in vector)]) + "\n")


def _numbered_lines(path: Path, handle: IO[str]) -> Iterator[tuple[int, str]]:
    for number in count(1):
        try:
            line = handle.readline(LONGEST_LINE)
        except (UnicodeDecodeError, *DAMAGE) as error:
            raise ValueError(f"{path}, line {number}: this is not text ({error}).") from None
        if not line:
            return
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"{path}, line {number}: longer than {LONGEST_LINE:,} characters, so this is not a "
                "file of vectors, which has one gene in each line."
            )
        yield number, line


def _is_header(words: list[str]) -> bool:
    return len(words) == 2 and all(word.isdecimal() for word in words)


def _values(path: Path, number: int, words: list[str], dim: int) -> np.ndarray:
    if len(words) - 1 != dim:
        raise ValueError(
            f"{path}, line {number}: {len(words) - 1} values, but gene2vec.dim is {dim}. Set "
            "gene2vec.dim and network.dim to what the file holds, or restore the file."
        )
    try:
        values = np.array([float(word) for word in words[1:]])
    except ValueError:
        raise ValueError(
            f"{path}, line {number}: what follows the gene {words[0]!r} holds something "
            "that is not a number. Restore the file."
        ) from None
    if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float32).max:
        raise ValueError(
            f"{path}, line {number}: gene {words[0]} has a value that is not finite in float32."
        )
    return values


def read_vectors(gene2vec: Path, vocabulary: pd.DataFrame) -> np.ndarray:
    """Read gene vectors, shape (vocabulary, dim), and make sure that they belong to the vocabulary.

    Raises
    ------
    ValueError
        If they were trained for another vocabulary.
    """
    meta = read_json(gene2vec / "meta.json")
    if meta["vocabulary_sha256"] != vocabulary_sha256(vocabulary):
        raise ValueError(
            f"{gene2vec} holds vectors for another vocabulary. Train gene2vec again for this one."
        )
    return np.load(gene2vec / "vectors.npy", allow_pickle=False)
