"""Files of PanglaoDB's form with synthetic counts; benchmarks/corpus.py writes its own with them.

The format is that of R's save(): R Internals, "Serialization Formats", version 3, XDR.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from scipy import sparse

SYMBOL, PAIRS, STRING, INTEGER, REAL, STRINGS, LIST, S4, NIL = 1, 2, 9, 13, 14, 16, 19, 25, 254
OBJECT, ATTRIBUTES, TAG, ASCII = 0x100, 0x200, 0x400, 64 << 12


def write_sample(
    path: Path, counts: sparse.csc_matrix, row_names: list[str], barcodes: list[str]
) -> None:
    """Write a file like PanglaoDB's.

    Parameters
    ----------
    counts
        Shape (genes, cells), float64.
    row_names
        SYMBOL_ENSEMBLID.VERSION of each gene.
    """
    with gzip.open(path, "wb", compresslevel=1) as handle:
        handle.write(rdata_of({"sm": matrix_of(counts, row_names, barcodes)}))


def rdata_of(objects: dict[str, bytes]) -> bytes:
    """Return what R's save() writes, before compression, of serialized objects."""
    header = struct.pack(">iiii", 3, 0x40301, 0x30500, 5) + b"UTF-8"
    return b"RDX3\nX\n" + header + pairs(objects)


def matrix_of(counts: sparse.csc_matrix, row_names: list[str], barcodes: list[str]) -> bytes:
    slots = {
        "i": integers(counts.indices),
        "p": integers(counts.indptr),
        "Dim": integers(np.array(counts.shape)),
        "Dimnames": struct.pack(">ii", LIST, 2) + strings(row_names) + strings(barcodes),
        "x": struct.pack(">ii", REAL, counts.nnz) + counts.data.astype(">f8").tobytes(),
        "factors": struct.pack(">ii", LIST, 0),
        "class": strings(["dgCMatrix"], ATTRIBUTES) + pairs({"package": strings(["Matrix"])}),
    }
    return struct.pack(">i", S4 | OBJECT | ATTRIBUTES | 16 << 12) + pairs(slots)


def pairs(values: dict[str, bytes]) -> bytes:
    head = struct.pack(">ii", PAIRS | TAG, SYMBOL)
    items = (head + string(name) + value for name, value in values.items())
    return b"".join(items) + struct.pack(">i", NIL)


def integers(values: np.ndarray) -> bytes:
    return struct.pack(">ii", INTEGER, len(values)) + values.astype(">i4").tobytes()


def strings(values: list[str], flags: int = 0) -> bytes:
    return struct.pack(">ii", STRINGS | flags, len(values)) + b"".join(map(string, values))


def string(value: str) -> bytes:
    return struct.pack(">ii", STRING | ASCII, len(value)) + value.encode()
