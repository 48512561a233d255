"""A file of cells in one of many forms, and what `scbert annotate` makes of it beside the original.

The cells are 140 of blood, with all genes, that celltypist ships; the model is the package's own.
Each form must give the labels of the original, or a warning with a number, or be refused with
advice that works.
"""

import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.how_to_read import HowToRead
from scbert.cells.read import read_cells
from scbert.defaults import load_defaults
from scbert.shipped import BLOOD, model_folder
from scbert.steps.annotate_file import annotate_file
from scbert.steps.read_counts import read_counts
from scbert.training.labelled_file import dataset_of, reading_of

SAMPLE = "data/samples/sample_cell_by_gene.csv"  # of celltypist
CELLS = "SCBERT_INPUTS"  # an environment variable
N_CELLS = 140
SAME = 0.98  # share of cells
NUMBER = re.compile(r"\d")


@dataclass(frozen=True)
class Variant:
    """A form of the cells.

    Parameters
    ----------
    write
        Writes the cells below a folder and returns the path.
    options
        How to read it, as the command's options.
    refused
        What the error must say, a regular expression; empty: it must not be refused.
    fix
        What follows the advice of the error: other options, or a function of the path and the
        error that gives the path of a file. None: a person must give other data.
    labelled
        It is read as a reference is, with types in obs['cell_type'], and these are compared.
    """

    group: str
    name: str
    write: Callable[[ad.AnnData, Path], Path]
    options: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    fix: Mapping[str, str] | Callable[[Path, str], Path] | None = None
    labelled: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came out: an error, or the share of cells with the label of the original."""

    error: str = ""
    agreement: float = float("nan")
    unknown: float = float("nan")
    warnings: tuple[str, ...] = ()
    crashed: bool = False

    @property
    def verdict(self) -> str:
        """Same, warned, refused, crashed (an error that is none of ours) or silent."""
        if self.error:
            return "crashed" if self.crashed else "refused"
        if self.agreement >= SAME:
            return "same"
        return "warned" if any(NUMBER.search(text) for text in self.warnings) else "silent"


def changed(group: str, name: str, change: Callable[[ad.AnnData], Any], **more: Any) -> Variant:
    """Return a variant that is written as .h5ad after a change, in place or to what is returned."""

    def write(cells: ad.AnnData, folder: Path) -> Path:
        other = change(cells)
        other = other if isinstance(other, ad.AnnData) else cells
        with ad.settings.override(allow_write_nullable_strings=True):
            other.write_h5ad(folder / "q.h5ad")
        return folder / "q.h5ad"

    return Variant(group, name, write, **more)


@cache
def original() -> ad.AnnData:
    """Return the cells, counts, with the genes that one of them all expresses.

    They are those that celltypist ships, or of the .h5ad that the environment variable names.
    """
    package = Path(importlib.util.find_spec("celltypist").origin).parent
    cells = read_cells(Path(os.environ.get(CELLS, package / SAMPLE)))
    cells = ad.AnnData(cells.X, cells.obs[[]], pd.DataFrame(index=cells.var_names))
    cells = cells[:, np.asarray(cells.X.sum(axis=0)).ravel() > 0]
    cells = cells[np.linspace(0, cells.n_obs - 1, N_CELLS).astype(int)].copy()
    cells.obs["cell_type"] = pd.Categorical(np.resize(["B", "T", "NK"], cells.n_obs))
    return cells


@cache
def original_labels(folder: Path) -> tuple[pd.Series, tuple[str, ...]]:
    """Return the labels of the cells as they are, and the warnings that belong to them."""
    original().write_h5ad(folder / "original.h5ad")
    texts: list[str] = []
    with _heard(texts, folder):
        found = annotate_file(folder / "original.h5ad", _model(), folder / "named.h5ad")
    return found.obs.scbert_label.astype(str), tuple(texts)


@cache
def _model() -> Path:
    return model_folder(BLOOD)


def outcomes(variant: Variant, folder: Path, shared: Path) -> tuple[Outcome, Outcome | None]:
    """Write a variant and read it; if it is refused, follow the advice and read again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of anndata, about what is odd on purpose
        path = variant.write(original().copy(), folder)
    first = _read(path, variant, variant.options, shared)
    if not first.error or variant.fix is None:
        return first, None
    if isinstance(variant.fix, Mapping):
        return first, _read(path, variant, {**variant.options, **variant.fix}, shared)
    return first, _read(variant.fix(path, first.error), variant, variant.options, shared)


def _read(path: Path, variant: Variant, options: Mapping[str, str], shared: Path) -> Outcome:
    labels, usual = original_labels(shared)
    texts: list[str] = []
    name, reading = str(path.parent), HowToRead(**options)
    try:
        with _heard(texts, path.parent):
            found, unknown = (_types if variant.labelled else _calls)(path, reading)
    except Exception as error:  # noqa: BLE001  it is the outcome
        expected = isinstance(error, (ValueError, OSError))
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        return Outcome(error=text.replace(f"{name}/", ""), crashed=not expected)
    if variant.labelled:
        labels = original().obs.cell_type.astype(str)
    return Outcome(
        "", _agreement(found, labels), unknown, tuple(t for t in texts if t not in usual)
    )


def _calls(path: Path, reading: HowToRead) -> tuple[pd.Series, float]:
    out = path.parent / "out.h5ad"
    annotate_file(path, _model(), out, reading=reading, device="cpu")
    obs = ad.read_h5ad(out).obs  # so it can be read
    return obs.scbert_label.astype(str), float(obs.scbert_is_unknown.mean())


def _types(path: Path, reading: HowToRead) -> tuple[pd.Series, float]:
    dataset = dataset_of(path, reading, label_key="cell_type")
    counts, quality = (path.with_name(f"read.{suffix}") for suffix in ("h5ad", "json"))
    read_counts(path, counts, quality, reading_of(dataset, load_defaults(None, {})))
    return ad.read_h5ad(counts).obs.cell_type.astype(str), float("nan")


def _agreement(found: pd.Series, labels: pd.Series) -> float:
    """Return the share of cells with the same label; cells of other names are taken in order."""
    if found.index.isin(labels.index).all():
        return float((found == labels[found.index]).mean())
    n = min(len(found), len(labels))
    return float((found.to_numpy()[:n] == labels.to_numpy()[:n]).mean())


class _heard(logging.Handler):
    """Collect the warnings of the log."""

    def __init__(self, texts: list[str], folder: Path) -> None:
        super().__init__(logging.WARNING)
        self.texts, self.folder = texts, folder

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage().replace(f"{self.folder}/", ""))

    def __enter__(self) -> None:
        logging.getLogger("scbert").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("scbert").removeHandler(self)
