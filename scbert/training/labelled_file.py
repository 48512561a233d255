"""One labelled file: how it is described, read and tokenized, by the embedded configuration."""

import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from scbert.cells.cautions import Caution, say
from scbert.cells.how_to_read import AUTOMATIC, HowToRead
from scbert.cells.labels import compare_with_model
from scbert.cells.query import open_query
from scbert.cells.samples import read_sample
from scbert.config import Config, Dataset, DeviceName, ReadSettings, settings_for
from scbert.defaults import load_defaults
from scbert.files import JsonObject
from scbert.tokens.store import TokenStore
from scbert.training.query_tokens import reading_for
from scbert.training.saved_model import FinetunedModel, SavedModel
from scbert.training.seen_cells import Recognized, fingerprints, recognize

log = logging.getLogger(__name__)


def path_of(cells: object) -> Path:
    """Return the path of a labelled file.

    Raises
    ------
    ValueError
        If it is none, but for example an AnnData: results name the file and its SHA-256.
    """
    if isinstance(cells, str | os.PathLike):
        return Path(cells)
    raise ValueError(
        f"the labelled cells are of type {type(cells).__name__}, but a file is needed, for results "
        "name it and its SHA-256. Write it, adata.write_h5ad('cells.h5ad'), and give its path."
    )


def dataset_of(file: Path, reading: HowToRead, *, label_key: str, batch_key: str = "") -> Dataset:
    """Describe a labelled file as a line of the table of datasets does.

    Raises
    ------
    ValueError
        If label_key is empty, with the columns that the file has.
    """
    if not label_key:
        _refuse_without_key(file, reading)
    return Dataset.model_validate(
        {
            "dataset": re.sub(r"[^A-Za-z0-9_-]", "_", file.stem),
            "file": file.name,
            "matrix": reading.matrix,
            "scale": reading.scale,
            "label_key": label_key,
            "batch_key": batch_key,
            "library_size_key": reading.library_size_key,
            "in_corpus": "no",
            "ontology": "",
        }
    )


def _refuse_without_key(file: Path, reading: HowToRead) -> None:
    """Refuse the empty name as that of any column that is not there, with those that are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        open_query(file, reading, Path(folder), str(file), columns=[""]),
    ):
        pass


def settings_of(
    model: SavedModel,
    file: str | Path | None,
    seed: int | None,
    device: DeviceName | None = None,
) -> Config:
    """Return the embedded configuration, changed by a YAML file, what is given and the model.

    Raises
    ------
    ValueError
        If the file is not YAML of keys and values, or a value is not allowed.
    """
    fixed: JsonObject = {"binning": {"n_bins": model.config["n_bins"]}}
    if seed is not None:
        fixed["finetune"] = {"seeds": [seed]}
    if device is not None:
        fixed["device"] = device
    return load_defaults(None if file is None else Path(file), fixed)


def reading_of(dataset: Dataset, config: Config) -> ReadSettings:
    """Return how to read a labelled file."""
    return settings_for(
        ReadSettings,
        config,
        sample=dataset.dataset,
        source=dataset.file,
        matrix=dataset.matrix,
        scale=dataset.scale,
        dataset=dataset,
        leave_out=False,
    )


@dataclass(frozen=True)
class LabelledFile:
    """The counts of a file's cells with a known type.

    `left_out` counts the other cells, by why they are no use; `cautions` are what to know of it.
    """

    cells: ad.AnnData
    left_out: dict[str, int]
    cautions: list[Caution]


def read_labelled(
    file: Path, dataset: Dataset, config: Config, model: FinetunedModel
) -> LabelledFile:
    """Read the counts of cells with a known type, as `read_sample` does.

    Parameters
    ----------
    model
        Whose types the labels are to be, and by whose genes the matrix is chosen.

    Raises
    ------
    ValueError
        If the file cannot be used, or no cell is left.
    """
    wanted = reading_for(AUTOMATIC, model).wanted
    found = read_sample(file, reading_of(dataset, config), wanted)
    cells = found.cells
    of_labels = compare_with_model(cells.obs.cell_type, model.types, dataset.label_key)
    say(of_labels, str(file), log)
    empty, untyped = (cells.obs.n_genes == 0), (cells.obs.cell_type == "")
    left_out = {"without type": int(untyped.sum()), "without counts": int((empty & ~untyped).sum())}
    keep = (~empty & ~untyped).to_numpy()
    if not keep.any():
        raise ValueError(
            f"none of the {len(keep)} cells of {file} has a type in obs['{dataset.label_key}'] and "
            "a count. Name the column with the cell types, or give other cells."
        )
    return LabelledFile(cells[keep].copy(), left_out, [*found.cautions, *of_labels])


def unseen_cells(
    store: TokenStore, expression: sparse.csr_matrix, model: FinetunedModel
) -> np.ndarray:
    """Return the rows of the cells that the model was not trained on, ascending.

    The others are recognised whichever genes were left out, as counts or log1p of them; not by
    other counts, of the same cells sequenced again, thinned, or corrected for ambient RNA.

    Parameters
    ----------
    store, expression
        The cells, tokenized, and before, shape (cells, vocabulary).

    Raises
    ------
    ValueError
        If there is none.
    """
    rows = np.arange(len(store))
    if model.seen is None:  # of a model that another program trained
        log.warning(
            "whether the model was trained on some of the cells is not known: it keeps none"
        )
        return rows
    found = recognize(model.seen, expression)
    seen = np.isin(fingerprints(store, rows), model.seen.fingerprint) | found.seen
    _warn_of_unknown_cells(seen, found)
    if seen.all():
        raise ValueError(
            f"the model was trained on all {len(seen):,} cells, or chosen by them, so they say "
            "nothing about new ones. Give cells that it has not seen; the scores of its own test "
            "cells are in its README.md."
        )
    if seen.any():
        log.warning(
            "%s of the %s cells are left out: the model was trained on them, or chosen by them",
            *(f"{seen.sum():,}", f"{len(seen):,}"),
        )
    return rows[~seen]


def _warn_of_unknown_cells(seen: np.ndarray, found: Recognized) -> None:
    """Say how many cells cannot be told from training cells."""
    unknown = int((~seen & ~found.compared).sum())
    if unknown:
        log.warning(
            "%s of the %s cells could not be compared with the training cells: the file has too "
            "few counts of the genes by which these are known. Give all genes that were measured. "
            "If the model was trained on some of them, the scores are too high.",
            *(f"{unknown:,}", f"{len(seen):,}"),
        )
