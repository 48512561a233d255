"""scbert embed: cells + a model -> a vector for each cell."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scbert.cells.how_to_read import AUTOMATIC, HowToRead
from scbert.cells.query import QueryCells, in_memory, query_in_memory
from scbert.cells.result import joined, write_result
from scbert.config import DeviceName
from scbert.network.model import CellTypeModel
from scbert.shipped import model_folder
from scbert.tokens.store import store_in_memory
from scbert.training.answers import batches_of, precision_of
from scbert.training.bundle import load_model
from scbert.training.calls import made_by
from scbert.training.committee import network_of, outputs
from scbert.training.devices import choose_device
from scbert.training.query_tokens import CellsSeen, reading_for, tokens_for
from scbert.training.saved_model import SavedModel

HEAD = "cell vector of the fine-tuned head"
MEAN = "mean over the tokens of a cell of the pretrained encoder's output"


def embed(
    adata: ad.AnnData | str | Path,
    model: str | Path | SavedModel,
    *,
    matrix: str = "auto",
    scale: str = "auto",
    library_size_key: str = "",
    device: DeviceName = "auto",
    name: str = "adata",
) -> ad.AnnData:
    """Give each cell a vector.

    Parameters
    ----------
    adata, matrix, scale, library_size_key, device, name
        See `scbert.steps.annotate_file.annotate`.
    model
        The folder of a model, fine-tuned or only pretrained, or one that `load_model` has read.

    Returns
    -------
    A copy with obsm['X_scbert'] (cells, width), float32: of a model whose network was trained with
    a head the vector from which that names the type, else the mean over a cell's tokens of the
    encoder's output; uns['scbert_embedding'] says which, and has warnings.

    Raises
    ------
    ValueError
        If the cells cannot be used or share too few genes with the model.
    """
    cells, name = in_memory(adata, name)
    loaded = _loaded(model)
    reading = reading_for(HowToRead(matrix, scale, library_size_key), loaded)
    query = query_in_memory(cells, reading, name)
    return joined(cells, _vectors(query, loaded, device), [])


def embed_file(
    query: Path,
    model: Path,
    out: Path,
    *,
    reading: HowToRead = AUTOMATIC,
    device: DeviceName = "auto",
) -> ad.AnnData:
    """Embed the cells of a file and write the result, as `annotate_file` does."""
    loaded = _loaded(model)

    def make(opened: QueryCells) -> ad.AnnData:
        return _vectors(opened, loaded, device)

    return write_result(query, out, reading_for(reading, loaded), make)


def _loaded(model: str | Path | SavedModel) -> SavedModel:
    return model if isinstance(model, SavedModel) else load_model(model_folder(model))


def _vectors(query: QueryCells, model: SavedModel, device: DeviceName) -> ad.AnnData:
    here = choose_device(device)
    tokens = tokens_for(query, model)
    network = network_of(model.network).to(here)
    vectors, seen = [], CellsSeen(tokens)
    for part in tokens.each():
        found = outputs(
            model=network,
            cells=batches_of(model, store_in_memory(part.sample)),
            rows=np.arange(len(part.sample.cells)),
            device=here,
            precision=precision_of(model.config),
        )
        vectors.append(found.vectors)
        seen.add(part)
    cautions = [*tokens.cautions, *seen.cautions()]
    result = ad.AnnData(obs=pd.DataFrame(index=query.obs.index.astype(str)))
    result.obsm["X_scbert"] = np.concatenate(vectors)
    result.uns["scbert_embedding"] = made_by(tokens, cautions) | {
        "vector": HEAD if isinstance(model.network, CellTypeModel) else MEAN
    }
    return result
