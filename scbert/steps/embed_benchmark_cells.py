"""Rule embed_benchmark_cells: counts of several batches -> the encoder's vectors and components."""

from pathlib import Path

import anndata as ad
import numpy as np
from sklearn.decomposition import PCA

from scbert.benchmark.protocols import LabelledSet, frequent
from scbert.config import DeviceName, Protocols
from scbert.experts.classifiers import N_COMPONENTS, N_GENES
from scbert.experts.linear import most_variable_genes
from scbert.shipped import BENCHMARK_ENCODER
from scbert.steps.embed_file import embed
from scbert.tokens.tokenize import normalize


def embed_benchmark_cells(
    counts: Path, embedded: Path, settings: Protocols, device: DeviceName
) -> None:
    """Give each cell a vector by the encoder of the benchmark, and its principal components.

    Neither gets a label or a batch.

    Parameters
    ----------
    counts
        AnnData of read_counts, with cell_type and batch in obs; cells of rare types are left out.
    embedded
        AnnData to write, without a matrix: obs cell_type and batch, obsm scbert and pca, the latter
        of log2(1 + counts per 10,000) of the 2,000 genes that vary most.
    """
    cells = ad.read_h5ad(counts)
    columns = (cells.obs[name].to_numpy(dtype=str) for name in ("cell_type", "batch"))
    cells = cells[frequent(LabelledSet(cells.obs_names.to_numpy(), *columns), settings)].copy()
    how = {"matrix": "X", "scale": "expected_counts", "library_size_key": "library_size"}
    vectors = embed(cells, BENCHMARK_ENCODER, device=device, **how).obsm["X_scbert"]
    made = {"scbert": vectors, "pca": _components(cells)}
    ad.AnnData(obs=cells.obs[["cell_type", "batch"]].astype(str), obsm=made).write_h5ad(embedded)


def _components(cells: ad.AnnData) -> np.ndarray:
    library = cells.obs["library_size"].to_numpy(dtype=np.float64)
    expression = normalize(cells.X, np.maximum(library, 1), 10_000)
    values = expression[:, most_variable_genes(expression, N_GENES)].toarray()
    return PCA(min(N_COMPONENTS, *values.shape), random_state=0).fit_transform(values)
