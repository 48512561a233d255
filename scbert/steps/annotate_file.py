"""scbert annotate: cells of any AnnData + a fine-tuned model -> cell types with confidence."""

from pathlib import Path

import anndata as ad

from scbert.cells.how_to_read import AUTOMATIC, HowToRead
from scbert.cells.query import QueryCells, in_memory, query_in_memory
from scbert.cells.result import joined, write_result
from scbert.cells.scale import EXPECTED_COUNTS
from scbert.config import DeviceName
from scbert.shipped import BLOOD
from scbert.training.calls import STALE, call, finetuned
from scbert.training.query_tokens import reading_for
from scbert.training.saved_model import FinetunedModel


def annotate(
    adata: ad.AnnData | str | Path,
    model: str | Path | FinetunedModel = BLOOD,
    *,
    matrix: str = "auto",
    scale: str = "auto",
    library_size_key: str = "",
    cluster_key: str = "",
    device: DeviceName = "auto",
    all_experts: bool = False,
    name: str = "adata",
) -> ad.AnnData:
    """Name the type of each cell.

    Parameters
    ----------
    adata
        Counts or log-normalised expression, cells x genes; var_names are human symbols or Ensembl
        ids. It is not changed. Or the path of a file, which is read as a whole; for large ones
        `annotate_file` reads a part at a time.
    model
        The folder of a fine-tuned model, one that `load_finetuned` has read, or "blood", the model
        of the package.
    matrix, scale, library_size_key
        See `HowToRead`.
    cluster_key
        Column of obs with clusters: each gets the label of most of its cells as well.
    device
        cpu, cuda, mps (Apple), or auto: a CUDA GPU if there is one, else the CPU.
    all_experts
        Ask the encoder even where the model gives it no weight, which takes far longer.
    name
        What to call the data in errors.

    Returns
    -------
    A copy with the calls in obs, obsm and uns, see `scbert.training.calls.calls_of`.

    Raises
    ------
    ValueError
        If the cells cannot be used or share too few genes with the model.
    """
    loaded = finetuned(model)
    reading = reading_for(HowToRead(matrix, scale, library_size_key), loaded)
    cells, name = in_memory(adata, name)
    query = query_in_memory(cells, reading, name, _columns(cluster_key))
    found = call(query, loaded, cluster_key=cluster_key, device=device, all_experts=all_experts)
    return joined(cells, found, STALE)


def annotate_checked(
    cells: ad.AnnData, model: str | Path | FinetunedModel, device: DeviceName, name: str
) -> ad.AnnData:
    """Annotate counts that were checked when they were read, with their `library_size` in obs."""
    return annotate(
        cells,
        model,
        matrix="X",
        scale=EXPECTED_COUNTS,
        library_size_key="library_size",
        device=device,
        name=name,
    )


def annotate_file(
    query: Path,
    model: Path,
    out: Path,
    *,
    reading: HowToRead = AUTOMATIC,
    cluster_key: str = "",
    device: DeviceName = "auto",
    all_experts: bool = False,
) -> ad.AnnData:
    """Annotate a file and write the result as .h5ad; see `annotate`.

    Of an AnnData (.h5ad, .zarr or the modality rna of .h5mu, of anndata 0.8 or newer) and of a 10x
    .h5 a part is in memory at a time; the result is a copy of the file to which the calls are
    added, or a new .h5ad. Other files are read whole.

    Returns
    -------
    What is new: obs, obsm and uns, without a matrix.
    """
    loaded = finetuned(model)

    def make(opened: QueryCells) -> ad.AnnData:
        return call(opened, loaded, cluster_key=cluster_key, device=device, all_experts=all_experts)

    reading = reading_for(reading, loaded)
    return write_result(query, out, reading, make, columns=_columns(cluster_key), stale=STALE)


def _columns(cluster_key: str) -> list[str]:
    return [cluster_key] if cluster_key else []
