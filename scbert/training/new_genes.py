"""A pretrained encoder + labelled cells -> the encoder with the genes that only those cells have.

An encoder of blood knows no insulin. A gene that it lacks gets a random vector, of the size of the
others, as a gene without a partner does in gene2vec. Where the network is trained, so is the
vector; an encoder that stays as it is does not see the gene, and the other experts learn from it.
"""

import logging
from pathlib import Path

import anndata as ad
import pandas as pd
import torch
from torch import Tensor

from scbert.cells.cautions import Caution
from scbert.cells.query_cautions import contradicting_names, few_genes_to_learn, few_known_counts
from scbert.cells.read import gene_names
from scbert.genes.matching import GeneMatch, match_genes
from scbert.network.model import empty_model
from scbert.tables import read_table
from scbert.training.bundle import load_pretrained, save_model
from scbert.training.bundle_contents import BundleConfig
from scbert.training.saved_model import PretrainedModel

log = logging.getLogger(__name__)
GENES = "encoder.gene.weight"


def extend_vocabulary(
    pretrained: Path, counts: Path, split: Path, out: Path, *, min_cells: int, seed: int
) -> int:
    """Write a pretrained model that knows the genes of these cells, too.

    Parameters
    ----------
    pretrained
        Folder of the model; it stays as it is.
    counts, split
        Cells and their parts. Cells of the part `test` are not looked at.
    out
        The folder to write.
    min_cells
        In how many of the cells a gene must be expressed. Names that are ambiguous or of another
        species are left out.
    seed
        Of the new vectors.

    Returns
    -------
    The number of genes added.

    Raises
    ------
    ValueError
        If the model has the original's sequence, whose length is fixed, or is fine-tuned.
    """
    known = load_pretrained(pretrained)
    _require_free_length(known, pretrained)
    names = _names_of_training(counts, split)
    new = new_genes(names, match_genes(names, known.genes), known.genes)
    new = new[new.n_cells >= min_cells]
    genes = pd.concat([known.genes, new.astype(str)], ignore_index=True).fillna("")
    config: BundleConfig = {
        **known.config,
        "added_genes": len(new),
        "added_to": known.sha256,
    }
    model = empty_model(config, len(genes), None)
    weights = known.network.state_dict()
    weights[GENES] = torch.cat([weights[GENES], vectors_like(weights[GENES], len(new), seed)])
    model.load_state_dict(weights)
    save_model(out, model, config, genes)
    log.info("%d genes that the encoder did not know were added to its %d", len(new), len(genes))
    return len(new)


def _require_free_length(model: PretrainedModel, folder: Path) -> None:
    if model.config["sequence"] == "paper":
        raise ValueError(
            f"{folder} cannot take further genes: its sequence is paper, in which the number of "
            "genes is that of the tokens, but expressed_genes or all_genes is needed. Fine-tune it "
            "without --add-genes."
        )


def _names_of_training(counts: Path, split: Path) -> pd.DataFrame:
    """Return symbol and gene_id of each gene, and n_cells, how many but test cells express it."""
    cells = ad.read_h5ad(counts)
    part = read_table(split, "cell", "part").set_index("cell").part.loc[cells.obs_names]
    n_cells = cells[(part != "test").to_numpy()].X.getnnz(axis=0)
    return gene_names(cells.var).assign(n_cells=n_cells)


def new_genes(names: pd.DataFrame, match: GeneMatch, known: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `names` (symbol, gene_id, n_cells) that are genes of their own.

    Parameters
    ----------
    match
        Of `names` with the vocabulary `known`.
    """
    shown = names.symbol.where(names.symbol != "", names.gene_id)
    human = (names.gene_id == "") | names.gene_id.str.startswith("ENSG")
    taken = shown.isin(match.ambiguous) | shown.isin(known.symbol) | shown.duplicated()
    new = human & ~taken & (shown != "") & (match.index < 0)
    return names.assign(symbol=shown)[new.to_numpy()]


def vectors_like(vectors_VD: Tensor, n_new: int, seed: int) -> Tensor:
    """Draw vectors with the mean and the standard deviation that each column of others has."""
    drawn = torch.randn(n_new, vectors_VD.shape[1], generator=torch.Generator().manual_seed(seed))
    return vectors_VD.mean(dim=0) + vectors_VD.std(dim=0) * drawn


def cautions_of_genes(found: dict) -> list[Caution]:
    """Warn where much of what was counted will not be seen, or few of the encoder's genes are used.

    Parameters
    ----------
    found
        What `normalize_counts` writes of the genes.
    """
    return [
        *contradicting_names(
            found["contradicting"], found["with_id_and_symbol"], found["contradicting_examples"]
        ),
        *few_known_counts(found["share_of_counts"], found["unmatched_examples"]),
        *few_genes_to_learn(found["share_of_vocabulary"]),
    ]
