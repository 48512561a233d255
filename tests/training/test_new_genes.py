"""An encoder that gets genes which it did not know: nothing else of it may change."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scbert.genes.matching import match_genes
from scbert.tables import write_table
from scbert.training.bundle import load_model, load_pretrained, save_model
from scbert.training.new_genes import (
    cautions_of_genes,
    extend_vocabulary,
    new_genes,
    vectors_like,
)


@pytest.fixture
def cells(toy_run, tmp_path):
    """Six cells: INS in all, GCG in the two of the test, a mouse's gene, one of the vocabulary."""
    known = load_pretrained(toy_run.pretrained).genes.symbol[0]
    var = pd.DataFrame(
        {"symbol": [known, "INS", "GCG", "Ins2"], "gene_id": ["", "ENSG00000254647", "", ""]},
        index=[known, "INS", "GCG", "Ins2"],
    )
    var.loc["Ins2", "gene_id"] = "ENSMUSG00000000215"
    x = np.array([[1, 2, 0, 1]] * 4 + [[1, 2, 3, 1]] * 2, dtype=np.float32)
    adata = ad.AnnData(sparse.csr_matrix(x), obs=pd.DataFrame(index=list("abcdef")), var=var)
    adata.write_h5ad(tmp_path / "counts.h5ad")
    part = ["train"] * 3 + ["validation"] + ["test"] * 2
    write_table(tmp_path / "split.tsv", pd.DataFrame({"cell": list("abcdef"), "part": part}))
    return tmp_path


def extend(pretrained, folder, out="out", seed=1):
    counts, split = folder / "counts.h5ad", folder / "split.tsv"
    n_new = extend_vocabulary(pretrained, counts, split, folder / out, min_cells=2, seed=seed)
    return n_new, load_model(folder / out)


def test_extend_vocabulary_adds_what_training_cells_express(cells, toy_run):
    """GCG is in test cells only: who looks at those knows of it."""
    before = load_pretrained(toy_run.pretrained)
    n_new, after = extend(toy_run.pretrained, cells)
    assert n_new == 1
    assert after.genes.symbol.tolist() == [*before.genes.symbol, "INS"]
    assert after.genes.gene_id.iloc[-1] == "ENSG00000254647"
    assert after.config["added_genes"] == 1
    assert after.config["added_to"] == before.sha256


def test_extend_vocabulary_changes_nothing_that_was_there(cells, toy_run):
    before, (_, after) = load_pretrained(toy_run.pretrained), extend(toy_run.pretrained, cells)
    old, new = before.network.state_dict(), after.network.state_dict()
    assert set(old) == set(new)
    for name, weight in old.items():
        assert torch.equal(new[name][: len(weight)] if weight.dim() else new[name], weight)
    genes_BG, tokens_BG = torch.tensor([[0, 5, 9]]), torch.tensor([[1, 2, 5]])
    given = genes_BG, tokens_BG, torch.ones_like(genes_BG, dtype=torch.bool)
    assert torch.equal(before.network(*given), after.network(*given))


def test_extend_vocabulary_is_the_same_for_the_same_seed(cells, toy_run):
    one, same, other = (
        extend(toy_run.pretrained, cells, name, seed)[1].network.encoder.gene.weight
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_vectors_like_have_the_size_of_the_others():
    others = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * 3 + 2
    drawn = vectors_like(others, 4000, seed=0)
    assert torch.allclose(drawn.mean(dim=0), others.mean(dim=0), atol=0.3)
    assert torch.allclose(drawn.std(dim=0), others.std(dim=0), rtol=0.1)


def test_new_genes_are_not_those_of_ambiguous_or_repeated_names():
    known = pd.DataFrame(
        {"symbol": ["A", "B"], "gene_id": ["", ""], "aliases": ["", ""], "ambiguous": ["", "TWO"]}
    )
    names = pd.DataFrame({"symbol": ["A", "TWO", "C", "C", ""], "gene_id": [""] * 5}).assign(
        n_cells=9
    )
    found = new_genes(names, match_genes(names, known), known)
    assert found.symbol.tolist() == ["C"]


def test_extend_vocabulary_refuses_the_originals_sequence(cells, toy_run, tmp_path):
    bundle = load_pretrained(toy_run.pretrained)
    dim, config = bundle.config["network"]["dim"], bundle.config | {"sequence": "paper"}
    bundle.network.encoder.gene = torch.nn.Embedding(len(bundle.genes) + 1, dim)
    save_model(tmp_path / "paper", bundle.network, config, bundle.genes)
    with pytest.raises(ValueError, match="number of genes is that of the tokens"):
        extend(tmp_path / "paper", cells)
    with pytest.raises(ValueError, match="is a fine-tuned model, but one"):
        extend(toy_run.model, cells)


AGREE = {"with_id_and_symbol": 0, "contradicting": 0, "contradicting_examples": []}


@pytest.mark.parametrize(("share", "warned"), [(0.43, True), (0.97, False), (None, False)])
def test_cautions_of_genes_say_how_much_is_not_seen(share, warned):
    found = {"share_of_counts": share, "unmatched_examples": ["INS", "GCG"]}
    cautions = cautions_of_genes(found | AGREE | {"share_of_vocabulary": 0.9})
    assert bool(cautions) == warned
    if warned:
        assert "only 43.0% of the counts" in str(cautions[0])
        assert "not INS, GCG, ..." in str(cautions[0])


def test_cautions_of_genes_say_that_the_reference_is_a_panel():
    found = {"share_of_counts": 1.0, "unmatched_examples": [], "share_of_vocabulary": 0.12}
    (caution,) = cautions_of_genes(found | AGREE)
    assert caution.code == "few_genes_to_learn"
    assert "only 12.0% of the encoder's genes" in caution.found


def test_cautions_of_genes_say_that_ids_and_symbols_contradict():
    found = {"share_of_counts": 1.0, "unmatched_examples": [], "share_of_vocabulary": 0.9}
    wrong = {"contradicting": 95, "contradicting_examples": ["CD3D with the id of LYZ"]}
    (caution,) = cautions_of_genes(found | {"with_id_and_symbol": 100} | wrong)
    assert caution.code == "contradicting_names"
    assert "95 of the 100 genes" in caution.found
    assert "(CD3D with the id of LYZ, ...). The ids were used" in caution.found
    usual = {"with_id_and_symbol": 17_043, "contradicting": 2}
    assert not cautions_of_genes(found | wrong | usual)
