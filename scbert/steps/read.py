"""Steps from files of cells to counts and splits. None of them needs torch."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.counts import (
    check_names,
    library_sizes,
    read_cells,
    require_column,
    require_scale,
    select_matrix,
    write_cells,
)
from scbert.cells.expression import cell_sums
from scbert.cells.genes import gene_names
from scbert.cells.r_files import read_rdata
from scbert.cells.recover import recover_counts
from scbert.cells.scale import Scale, check_values
from scbert.cells.splits import split_batches, unlabelled_part
from scbert.cells.splits import split_cells as split_by_type
from scbert.cells.tables import read_table, write_table
from scbert.config import Dataset, ReadSettings, Split
from scbert.files import sha256_of, write_json

log = logging.getLogger(__name__)

UNKNOWN_SUM = (
    "The file does not tell to how many counts per cell it was normalised; taken as {:,.0f}. "
    "Name the column of all counts (library_size_key) if there is one."
)


def read_counts(cells: Path, counts: Path, quality: Path, settings: ReadSettings) -> None:
    """Read a file of cells, check it, and write its counts and what was done to them.

    Written: `counts`, an AnnData with X (cells, genes) raw counts, CSR float32; obs library_size
    (all counts of the cell), n_genes and, for a dataset, cell_type and batch; var symbol and
    gene_id.

    Raises
    ------
    ValueError
        If the file cannot be used; nothing is written then.
    """
    dataset = settings.dataset
    panglaodb = cells.suffix == ".RData"
    adata = read_rdata(cells) if panglaodb else read_cells(cells)
    check_names(adata, str(cells))
    matrix, genes, found = select_matrix(adata, settings.matrix, str(cells))
    if panglaodb:  # counts by definition, though reads shared between genes make fractions
        check_values(matrix, str(cells))
        scale = Scale("counts", np.e, None)
    else:
        scale = require_scale(matrix, settings.scale, f"{found} of {cells}")
    library = library_sizes(adata.obs, dataset.library_size_key if dataset else "", str(cells))
    library_known = scale.kind == "counts" or bool(scale.target_sum) or library is not None
    if scale.kind == "log1p":
        matrix, library = recover_counts(matrix, scale, library, settings.normalization.target_sum)
    elif library is None:
        library = cell_sums(matrix)
    n_genes = matrix.getnnz(axis=1)
    obs = pd.DataFrame({"library_size": library, "n_genes": n_genes}, index=adata.obs_names)
    if dataset:
        obs = obs.join(_labels(adata.obs, dataset, str(cells)))
    keep, dropped = _keep(obs, settings.counts.min_genes)
    if dataset:
        _check_types(obs.cell_type[keep], settings.counts.min_cells_per_type, dataset)
    notes = [] if library_known else [UNKNOWN_SUM.format(settings.normalization.target_sum)]
    result = ad.AnnData(matrix[keep].astype(np.float32), obs=obs[keep])
    result.var = gene_names(genes).set_index(genes.index.astype(str).rename(None))
    result.var["n_cells"] = result.X.getnnz(axis=0)
    write_cells(counts, result)
    write_json(
        quality,
        {
            "sample": settings.sample,
            "source": settings.source,
            "sha256": sha256_of(cells),
            "matrix": found,
            "scale": str(scale) + ("" if scale.kind == "counts" else ", taken back to counts"),
            "cells_read": len(keep),
            "cells_kept": int(keep.sum()),
            "dropped": dropped,
            "genes": matrix.shape[1],
            "cell_types": _numbers(result.obs.cell_type) if dataset else {},
            "notes": notes,
        },
    )
    log.info(
        "%s: %s of %s; %d of %d cells kept", settings.sample, found, scale, keep.sum(), len(keep)
    )


def _labels(obs: pd.DataFrame, dataset: Dataset, name: str) -> pd.DataFrame:
    labels = require_column(obs, dataset.label_key, name)
    columns = {"cell_type": labels.astype(object).where(labels.notna(), "").astype(str)}
    if dataset.batch_key:
        batch = require_column(obs, dataset.batch_key, name)
        if batch.isna().any():
            raise ValueError(
                f"obs['{dataset.batch_key}'] of {name} is empty in {batch.isna().sum()} cells, but "
                "a batch must not be in two parts. Fill it in, or leave batch_key empty."
            )
        columns["batch"] = batch.astype(str)
    return pd.DataFrame(columns)


def _keep(obs: pd.DataFrame, min_genes: int) -> tuple[np.ndarray, dict[str, int]]:
    """Return which cells stay, shape (cells,), and how many go for which reason."""
    few_genes = (obs.n_genes < min_genes).to_numpy()
    unlabelled = (
        (obs.cell_type == "").to_numpy() if "cell_type" in obs else np.zeros(len(obs), bool)
    )
    reasons = {
        f"fewer than {min_genes} expressed genes": int(few_genes.sum()),
        "no cell type": int((unlabelled & ~few_genes).sum()),
    }
    keep = ~few_genes & ~unlabelled
    if not keep.any():
        raise ValueError(
            f"none of the {len(obs)} cells is left ({reasons}; median {obs.n_genes.median():.0f} "
            "expressed genes). Lower counts.min_genes or give other cells."
        )
    return keep, {reason: n for reason, n in reasons.items() if n}


def _check_types(cell_type: pd.Series, min_cells: int, dataset: Dataset) -> None:
    rare = {name: n for name, n in cell_type.value_counts().items() if n < min_cells}
    if rare and not dataset.batch_key:
        listed = ", ".join(f"'{name}' ({n})" for name, n in rare.items())
        raise ValueError(
            f"{dataset.dataset}: too few cells of type {listed}; train, validation and test "
            f"together need {min_cells} (counts.min_cells_per_type). Add cells, merge the types "
            "with others, or remove them."
        )
    if cell_type.nunique() < 2:
        raise ValueError(
            f"{dataset.dataset} has one cell type only, '{cell_type.iloc[0]}'; at least two are "
            "needed."
        )


def _numbers(values: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in values.value_counts().items()}


def split_cells(counts: Path, split: Path, settings: Split) -> None:
    """Divide a dataset into train, validation and test, by batch where it has batches."""
    obs = ad.read_h5ad(counts, backed="r").obs
    rng = np.random.default_rng(settings.seed)
    fractions = settings.test_fraction, settings.validation_fraction
    if "batch" in obs:
        part = split_batches(obs.batch.to_numpy().astype(str), *fractions, rng)
    else:
        part = split_by_type(obs.cell_type.to_numpy().astype(str), *fractions, rng)
    table = pd.DataFrame({"cell": obs.index, "cell_type": obs.cell_type.to_numpy()})
    table["batch"] = obs.batch.to_numpy() if "batch" in obs else ""
    table["part"] = part
    write_table(split, table)
    log.info("%s", _numbers(table.part))


def select_training_cells(counts: Path, split: Path, training_cells: Path) -> None:
    """Write the training cells without their labels, to join the corpus."""
    adata = ad.read_h5ad(counts)
    training = unlabelled_part(adata, read_table(split, "cell", "part"), "train")
    write_cells(training_cells, training)
    log.info("%d of %d cells, labels removed", training.n_obs, adata.n_obs)
