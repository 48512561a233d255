"""Step convert: a checkpoint of the original scBERT -> a bundle that every later step can use."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import torch
from torch import Tensor

from scbert.calibration.calibrate import NOT_CALIBRATED
from scbert.cells.read import gene_names
from scbert.config import Head, Network
from scbert.files import sha256_of, write_text
from scbert.genes.matching import read_vocabulary, vocabulary_sha256
from scbert.network.model import empty_model
from scbert.network.original import OriginalSizes, read_sizes, rename_weights
from scbert.provenance import provenance
from scbert.training.bundle import Contents, save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.query_tokens import LEAST_OVERLAP

log = logging.getLogger(__name__)
# SHA-256 of the 16,906 genes of panglao_human.h5ad, in order, which the released weights belong to.
AUTHORS_GENES = "4c09ba1912e184682fe5e7f32e2b443bdfb7883d0d0191551b38c6c2f155600f"
N_AUTHORS_GENES = 16_906
NORMALIZATION = {"target_sum": 10_000, "denominator": "vocabulary"}  # preprocess.py
ANNOTATE = {  # of our own: the original compares no genes and annotates cell by cell
    "tokens_per_batch": 65_536,
    "false_unknown_rate": 0.0,
    "min_gene_overlap": LEAST_OVERLAP,
}


def convert_checkpoint(
    checkpoint: Path, genes: Path, out: Path, labels: Path | None = None
) -> BundleConfig:
    """Write a checkpoint of the original scBERT as a bundle.

    Parameters
    ----------
    checkpoint
        File of its pretrain.py or finetune.py, or the model_state_dict alone. Read with
        weights_only: no code in it runs.
    genes
        The genes in the order of the checkpoint: .h5ad (its var_names), vocabulary .tsv, or a text
        file of one symbol per line.
    out
        Folder to write; it must not exist.
    labels
        Names of the cell types, one per line, in the order of the checkpoint (the original sorts
        them). None: class0, class1, ...

    Returns
    -------
    The config of the bundle.

    Raises
    ------
    ValueError
        If the file cannot be read, a weight is missing, unknown or of the wrong shape, or genes or
        labels are not as many as the checkpoint's.
    """
    if out.exists():
        raise ValueError(f"{out} exists already and would be replaced. Name a new folder.")
    content = _load(checkpoint)
    state = _weights(content, checkpoint)
    sizes = _sizes(state, checkpoint)
    table = _read_genes(genes, sizes.n_genes)
    config = _config(sizes, checkpoint, table, content)
    contents = _cell_types(labels, sizes.n_types, checkpoint)
    model = empty_model(config, sizes.n_genes, sizes.n_types)
    model.load_state_dict(rename_weights(state, sizes))
    save_model(out, model, config, table, contents=contents)
    write_text(out / "README.md", _card(config, sizes))
    log.info("%s: a %s model of %d genes", out, config["kind"], sizes.n_genes)
    return config


def _load(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Check the path.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read without running code that it may hold, or is not a checkpoint "
            f"({str(error).splitlines()[0]}). Give a file of torch.save with tensors only, such as "
            "its model_state_dict."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, but named weights are needed.")
    return content


def _weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights by name, without the prefix of a model that ran on several GPUs."""
    state = content.get("model_state_dict", content)
    if not isinstance(state, Mapping) or not all(isinstance(one, Tensor) for one in state.values()):
        raise ValueError(
            f"{path} holds {', '.join(map(str, list(content)[:5]))}, but named weights are needed, "
            "alone or as 'model_state_dict'. Give a checkpoint of the original scBERT."
        )
    return {str(key).removeprefix("module."): weight for key, weight in state.items()}


def _sizes(state: Mapping[str, Tensor], path: Path) -> OriginalSizes:
    try:
        return read_sizes(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_genes(path: Path, n_genes: int) -> pd.DataFrame:
    """Read the genes and require that they are as many as the checkpoint's."""
    table = _gene_table(path)
    if len(table) != n_genes:
        raise ValueError(
            f"{path} lists {len(table)} genes, but the checkpoint has vectors for {n_genes} and "
            "one appended token. Give the genes that it was trained with, in their order."
        )
    twice = table.symbol[table.symbol.duplicated()]
    if len(twice):
        raise ValueError(
            f"{path} lists {len(twice)} genes more than once, such as '{twice.iloc[0]}', but each "
            "has one vector. Give the genes that the checkpoint was trained with."
        )
    if n_genes == N_AUTHORS_GENES and vocabulary_sha256(table) != AUTHORS_GENES:
        log.warning(
            "%s: these %d genes are not those of panglao_human.h5ad, or in another order (sha256 "
            "%s, not %s). In the released weights every gene would get another's vector.",
            *(path, n_genes, vocabulary_sha256(table), AUTHORS_GENES),
        )
    return table


def _gene_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Check the path.")
    if path.suffix == ".tsv":
        return read_vocabulary(path)[["symbol", "gene_id"]]
    if path.suffix == ".h5ad":
        adata = ad.read_h5ad(path, backed="r")  # the corpus of the original has 9 GB
        names = gene_names(adata.var)
        adata.file.close()
    else:
        lines = path.read_text().split("\n")
        listed = [line.strip() for line in lines if line.strip()]
        names = gene_names(pd.DataFrame(index=pd.Index(listed, dtype=str)))
    names["symbol"] = names.symbol.where(names.symbol != "", names.gene_id)
    return names


def _cell_types(labels: Path | None, n_types: int | None, checkpoint: Path) -> Contents:
    """Return the bundle's content about types; nothing of a model that names none."""
    if n_types is not None:
        names = _read_labels(labels, n_types)
        terms = [{"name": name, "ontology_term_id": "unknown"} for name in names]
        return Contents(labels=terms, calibration=NOT_CALIBRATED)
    if labels is not None:
        raise ValueError(
            f"{checkpoint} is pretrained only and names no cell types, but {labels} was given. "
            "Leave --labels out."
        )
    return Contents()


def _read_labels(path: Path | None, n_types: int) -> list[str]:
    if path is None:
        return [f"class{number}" for number in range(n_types)]
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Check the path.")
    names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if len(names) != n_types or len(set(names)) != n_types:
        raise ValueError(
            f"{path} lists {len(names)} cell types, {len(set(names))} of them different, but the "
            f"checkpoint tells {n_types} apart. Give one name per line, in its order: the original "
            "sorts them."
        )
    return names


def _config(
    sizes: OriginalSizes, checkpoint: Path, genes: pd.DataFrame, content: Mapping[str, Any]
) -> BundleConfig:
    network = Network(
        dim=sizes.dim,
        depth=sizes.depth,
        heads=sizes.heads,
        dim_head=sizes.dim_head,
        n_features=sizes.n_features,
        ff_mult=sizes.ff_mult,
        attention="performer",
        stabilizer="cell",  # the original's, at batch size 1
        qk_rms=None,  # the original's queries and keys have any length
        dropout=0,
        gene_identity="frozen",
    )
    config: BundleConfig = {
        "kind": "pretrained",
        "sequence": "paper",
        "n_bins": sizes.n_bins,
        "network": network.model_dump(mode="json"),
        "normalization": NORMALIZATION,
        "annotate": ANNOTATE,
        "converted": {
            "file": checkpoint.name,
            "sha256": sha256_of(checkpoint),
            "genes_sha256": vocabulary_sha256(genes),
            "epoch": content["epoch"] if isinstance(content.get("epoch"), int) else None,
        },
        "provenance": provenance(),
    }
    if sizes.hidden is not None:
        head = Head(head="conv", hidden=sizes.hidden, dropout=0)
        config |= {"kind": "finetuned", "finetune": head.model_dump(mode="json")}
    return config


def _card(config: BundleConfig, sizes: OriginalSizes) -> str:
    converted, network = config["converted"], config["network"]
    types = "Not calibrated: confidence is the plain softmax, and no cell is called unknown."
    return (
        f"---\nlibrary_name: scbert-end-to-end\ntags: [single-cell, scbert]\n---\n"
        f"# {converted['file']}, converted from the original scBERT\n\n"
        f"SHA-256 of the checkpoint {converted['sha256']}, of its genes "
        f"{converted['genes_sha256']}.\n"
        f"Network: {network['depth']} layers, width {network['dim']}, {network['heads']} heads of "
        f"{network['dim_head']}, {sizes.n_genes} genes, {sizes.n_bins} bins"
        f"{f', {sizes.n_types} cell types' if sizes.n_types else ''}.\n\n"
        "## Limits\n"
        f"- {types if sizes.n_types else 'Pretrained only: fine-tune it before it names types.'}\n"
        "- It was trained elsewhere: nothing is known here about its data or its scores.\n"
        "- The original's code and released weights are under GPL-3.0; a conversion of them is "
        "too.\n"
    )
