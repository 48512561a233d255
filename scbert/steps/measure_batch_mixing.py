"""Rule measure_batch_mixing: vectors of cells -> how well batches mix and types stay apart.

Metrics: scib-metrics, after Luecken et al. 2022, Nature Methods 19, 41-50. Harmony: Korsunsky et
al. 2019, Nature Methods 16, 1289-1296. Neither is in the environment of the package.
"""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.benchmark.batch_mixing import COLUMNS, FEWEST_BATCHES
from scbert.tables import write_table

log = logging.getLogger("scbert")
PRINCIPAL, CORRECTED = "pca", "harmony"


def measure_batch_mixing(embedded: Path, dataset: str, mixing: Path) -> None:
    """Score the vectors of `embed_benchmark_cells`, and Harmony's correction of the components.

    Parameters
    ----------
    embedded
        AnnData of embed_benchmark_cells.
    mixing
        The table to write, of the columns COLUMNS; without lines if there is one batch only.

    Raises
    ------
    ValueError
        If scib-metrics or harmonypy is not installed.
    """
    cells = ad.read_h5ad(embedded)
    found = pd.DataFrame(columns=list(COLUMNS))
    if cells.obs["batch"].nunique() >= FEWEST_BATCHES:
        cells.obsm[CORRECTED] = _corrected(cells)
        found = _scores(cells).assign(dataset=dataset)[list(COLUMNS)]
    else:
        log.warning("%s has one batch only: nothing can mix", dataset)
    write_table(mixing, found)


def _corrected(cells: ad.AnnData) -> np.ndarray:
    """Return Harmony's correction of the principal components, shape (cells, components)."""
    try:
        from harmonypy import run_harmony  # noqa: PLC0415  not in the package's environment
    except ImportError as error:
        raise _not_installed(error) from error
    found = np.asarray(run_harmony(cells.obsm[PRINCIPAL], cells.obs, "batch").Z_corr)
    return found if len(found) == cells.n_obs else found.T  # older versions have it turned


def _scores(cells: ad.AnnData) -> pd.DataFrame:
    """Return a line for each embedding and metric; 1 is best, none is scaled by the others."""
    try:
        from scib_metrics.benchmark import Benchmarker  # noqa: PLC0415
    except ImportError as error:
        raise _not_installed(error) from error
    judge = Benchmarker(
        cells,
        batch_key="batch",
        label_key="cell_type",
        embedding_obsm_keys=list(cells.obsm),
        pre_integrated_embedding_obsm_key=PRINCIPAL,
        progress_bar=False,
    )
    judge.benchmark()
    table = judge.get_results(min_max_scale=False).drop(index="Metric Type")
    lines = table.rename_axis("embedding").reset_index().melt("embedding", var_name="metric")
    return lines.assign(value=lines["value"].map(lambda value: f"{float(value):.4f}"))


def _not_installed(error: ImportError) -> ValueError:
    return ValueError(
        f"{error}: batch mixing is measured by scib-metrics and harmonypy, which envs/"
        "batch_mixing.yaml lists. Use conda, name a Python that has them (benchmark.python: "
        "{batch_mixing: PATH}), or set benchmark.batch_mixing to false."
    )
