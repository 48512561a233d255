"""Steps build_vocabulary, normalize_counts and bin_expression."""

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from scbert.config import load_config
from scbert.files import read_json, sha256_of
from scbert.genes.matching import match_genes, read_vocabulary, vocabulary_sha256
from scbert.steps.bin_expression import bin_expression
from scbert.steps.build_vocabulary import build_vocabulary
from scbert.steps.normalize_counts import normalize_counts
from scbert.tables import write_table
from scbert.tokens.store import open_store, store_in_memory
from scbert.tokens.tokenize import (
    bins_of_levels,
    expression_of_counts,
    read_tokens,
    tokenize,
    tokens_of_expression,
)
from scbert.training.cell_batches import CellBatches

ROOT = Path(__file__).parents[2]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
SYMBOLS = ["CD3D", "LYZ", "MS4A1", "NKG7"]
IDS = [f"ENSG{number:011d}" for number in range(1, 5)]


def normalization(denominator="library"):
    return CONFIG.normalization.model_copy(update={"denominator": denominator})


def write_counts(path, x, symbols, **obs):
    """As read_counts does."""
    x = np.asarray(x, dtype=np.float32)
    table = pd.DataFrame(
        {"library_size": x.sum(axis=1), **obs}, index=[f"{path.stem}_c{n}" for n in range(len(x))]
    )
    var = pd.DataFrame(
        {"symbol": symbols, "gene_id": "", "n_cells": (x > 0).sum(axis=0)}, index=symbols
    )
    ad.AnnData(sparse.csr_matrix(x), table, var).write_h5ad(path)
    return path


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocabulary.tsv"
    write_table(path, pd.DataFrame({"symbol": SYMBOLS, "gene_id": IDS, "n_cells": 9}))
    return path


def normalise(tmp_path, counts, vocabulary, settings=None):
    expression, overlap = tmp_path / "x" / counts.name, tmp_path / "x" / (counts.stem + ".json")
    normalize_counts(counts, vocabulary, expression, overlap, settings or normalization())
    return expression, ad.read_h5ad(expression), read_json(overlap)


@pytest.fixture
def gene_table(tmp_path, toy):
    toy.write_gene_table(tmp_path / "genes.tsv", SYMBOLS, IDS, aliases=["T3D", "", "CD20", ""])
    return tmp_path / "genes.tsv"


def vocabulary_settings(**changed):
    return CONFIG.vocabulary.model_copy(update={"min_cells": 1, "max_genes": 2} | changed)


def test_build_vocabulary_of_two_samples(tmp_path, gene_table):
    first = write_counts(tmp_path / "s1.h5ad", [[1, 0, 2], [3, 0, 0]], ["LYZ", "T3D", "NKG7"])
    second = write_counts(tmp_path / "s2.h5ad", [[5, 1], [5, 0]], ["LYZ", "CD3D"])
    empty = write_counts(tmp_path / "s3.h5ad", np.zeros((0, 1)), ["LYZ"])
    counts = [first, second, empty]
    build_vocabulary(counts, gene_table, [], tmp_path / "v.tsv", vocabulary_settings())
    found = read_vocabulary(tmp_path / "v.tsv")
    assert found.to_dict("list") == {
        "symbol": ["CD3D", "LYZ"],
        "gene_id": IDS[:2],
        "gene_type": ["gene with protein product"] * 2,
        "aliases": ["T3D", ""],
        "ambiguous": ["", ""],
        "n_cells": ["1", "4"],
        "n_samples": ["1", "2"],
    }


def test_build_vocabulary_by_a_list_keeps_genes_that_no_sample_has(tmp_path, gene_table, caplog):
    caplog.set_level("INFO")
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 2, 0]], ["LYZ", "NKG7", "XYZ"])
    (tmp_path / "list.txt").write_text("XYZ\nCD20\r\nLYZ\n\nNEW\n")
    build_vocabulary(
        [counts], gene_table, [tmp_path / "list.txt"], tmp_path / "v.tsv", vocabulary_settings()
    )
    found = read_vocabulary(tmp_path / "v.tsv")
    assert found.symbol.tolist() == ["XYZ", "CD20", "LYZ", "NEW"]
    assert found.aliases.tolist() == ["", "MS4A1", "", ""]
    assert found.n_cells.tolist() == ["0", "0", "1", "0"]
    assert "4 genes: 1 approved symbols or ids, 1 other names, 2 not recognised" in caplog.text
    assert vocabulary_sha256(found) in caplog.text
    (tmp_path / "list.txt").write_text("Cd3d\n")
    with pytest.raises(ValueError, match=r"HGNC knows none of the 1 genes of .*list.txt \(Cd3d"):
        build_vocabulary(
            [counts], gene_table, [tmp_path / "list.txt"], tmp_path / "w.tsv", vocabulary_settings()
        )


def test_build_vocabulary_reads_no_matrix(tmp_path, gene_table):
    """And says what to do with a file that does not count its cells."""
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 2]], ["LYZ", "NKG7"])
    with h5py.File(counts, "a") as file:
        del file["X"]
    build_vocabulary([counts], gene_table, [], tmp_path / "v.tsv", vocabulary_settings())
    assert read_vocabulary(tmp_path / "v.tsv").symbol.tolist() == ["LYZ", "NKG7"]
    with h5py.File(counts, "a") as file:
        del file["var/n_cells"]
        file["var"].attrs["column-order"] = ["symbol", "gene_id"]
    with pytest.raises(ValueError, match=r"s1.h5ad has no column n_cells.*Run read_counts again"):
        build_vocabulary([counts], gene_table, [], tmp_path / "w.tsv", vocabulary_settings())


def test_build_vocabulary_leaves_nothing_when_no_gene_is_left(tmp_path, gene_table):
    counts = write_counts(tmp_path / "s1.h5ad", [[1.0]], ["LYZ"])
    with pytest.raises(ValueError, match=r"no gene is expressed in 5 cells.*vocabulary.min_cells"):
        build_vocabulary([counts], gene_table, [], tmp_path / "v.tsv", CONFIG.vocabulary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["genes.tsv", "s1.h5ad"]


def test_normalize_counts_finds_a_gene_by_its_older_name(tmp_path, vocabulary):
    table = read_vocabulary(vocabulary).assign(aliases=["T3D", "", "", ""])
    write_table(vocabulary, table.assign(ambiguous=["", "S7", "", ""]))
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 4, 3]], ["LYZ", "S7", "T3D"])
    _, found, overlap = normalise(tmp_path, counts, vocabulary)
    assert found.var_names.tolist() == ["CD3D", "LYZ"]
    assert (overlap["matched_by_alias"], overlap["missing"]) == (1, 2)
    assert (overlap["ambiguous"], overlap["ambiguous_examples"]) == (1, ["S7"])
    assert overlap["share_of_counts"] == 0.5


def test_normalize_counts_orders_genes_and_divides_by_the_whole_library(tmp_path, vocabulary):
    """Of 8 counts 4 are of a gene that the vocabulary lacks: LYZ is 1 / 8, or 1 / 4."""
    counts = write_counts(
        tmp_path / "s1.h5ad", [[1, 4, 3]], ["LYZ", "XYZ", "CD3D"], cell_type=["T cell"]
    )
    _, found, overlap = normalise(tmp_path, counts, vocabulary)
    assert found.var_names.tolist() == ["CD3D", "LYZ"]
    assert found.var.vocabulary_index.tolist() == [0, 1]
    assert found.X.toarray() == pytest.approx(np.log2(1 + np.array([[3750, 1250]])))
    assert found.obs.cell_type.tolist() == ["T cell"]
    assert found.uns["counts_sha256"] == sha256_of(counts)
    assert found.uns["vocabulary_sha256"] == vocabulary_sha256(read_vocabulary(vocabulary))
    assert (overlap["matched"], overlap["unmatched"], overlap["unmatched_examples"]) == (
        2,
        1,
        ["XYZ"],
    )
    assert overlap["share_of_vocabulary"] == 0.5
    _, found, _ = normalise(tmp_path, counts, vocabulary, normalization("vocabulary"))
    assert found.X.toarray() == pytest.approx(np.log2(1 + np.array([[7500, 2500]])))


def test_normalize_counts_keeps_a_gene_that_is_measured_but_silent(tmp_path, vocabulary):
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 0]], ["LYZ", "NKG7"])
    assert normalise(tmp_path, counts, vocabulary)[1].var_names.tolist() == ["LYZ", "NKG7"]


def test_normalize_counts_refuses_a_file_without_a_known_gene(tmp_path, vocabulary):
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 2]], ["Cd3d", "Lyz2"])
    with pytest.raises(
        ValueError,
        match=r"none of the 2 genes of .*s1.h5ad \(Cd3d, Lyz2, ...\) .* 4 genes \(CD3D, LYZ, MS4A1"
        r".*Use human gene symbols or Ensembl ids",
    ):
        normalise(tmp_path, counts, vocabulary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1.h5ad", "vocabulary.tsv"]


def test_normalize_counts_refuses_negative_counts_and_a_library_that_is_too_small(
    tmp_path, vocabulary
):
    for x, message in (
        ([[3, -1]], "counts hold -1"),
        ([[3, 2]], "has 5 counts but a library of 4"),
    ):
        counts = write_counts(tmp_path / "s1.h5ad", x, SYMBOLS[:2], library_size=[4.0])
        with pytest.raises(ValueError, match=message):
            normalise(tmp_path, counts, vocabulary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1.h5ad", "vocabulary.tsv"]


def test_bin_expression_joins_samples_in_the_vocabulary(tmp_path, vocabulary):
    """10,000 counts per cell, so that a count of 3 is log2(4) = 2; 1 is below 2, so bin 1."""
    first = write_counts(tmp_path / "s1.h5ad", [[3, 1, 9996]], ["LYZ", "CD3D", "XYZ"])
    second = write_counts(tmp_path / "s2.h5ad", [[10_000]], ["NKG7"])
    paths = [normalise(tmp_path, counts, vocabulary)[0] for counts in (first, second)]
    bin_expression(paths, vocabulary, tmp_path / "tokens", CONFIG.binning)
    store = open_store(tmp_path / "tokens")
    assert [part.tolist() for part in store.tokens(0)] == [[0, 1], [1, 2]]
    assert [part.tolist() for part in store.tokens(1)] == [[3], [5]]
    assert [store.measured_genes(cell).tolist() for cell in (0, 1)] == [[0, 1], [3]]
    assert store.cell_names() == ["s1_c0", "s2_c0"]
    assert [(entry["sample"], entry["sha256"]) for entry in store.meta["sources"]] == [
        (path.stem, sha256_of(path)) for path in paths
    ]
    assert store.meta["vocabulary_sha256"] == vocabulary_sha256(read_vocabulary(vocabulary))
    assert store.meta["vocabulary_size"] == 4
    assert {"anndata", "numpy", "python", "scipy"} <= set(store.meta["versions"])
    assert store.meta["bins"]["0"] == 0


def test_an_unmeasured_gene_is_no_token_even_if_all_genes_are(tmp_path, vocabulary):
    """From the file to the network: LYZ is silent in the first cell, and unknown in the second."""
    first = write_counts(tmp_path / "s1.h5ad", [[0, 5]], ["LYZ", "CD3D"])
    second = write_counts(tmp_path / "s2.h5ad", [[3]], ["NKG7"])
    paths = [normalise(tmp_path, counts, vocabulary)[0] for counts in (first, second)]
    bin_expression(paths, vocabulary, tmp_path / "tokens", CONFIG.binning)
    cells = CellBatches(open_store(tmp_path / "tokens"), "all_genes", CONFIG.binning.n_bins, 100)
    batch = cells.make(np.array([0, 1]))
    assert batch.real_BG.sum(dim=1).tolist() == [2, 1]
    assert batch.genes_BG[0].tolist() == [0, 1]
    assert batch.tokens_BG[0].tolist() == [5, 0]
    assert batch.genes_BG[1][batch.real_BG[1]].tolist() == [3]


def test_genes_below_one_are_counted_but_not_stored(tmp_path, vocabulary):
    """One count of 20,000 is 0.5 per 10,000: log2(1.5) = 0.58."""
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 19_999, 0]], SYMBOLS[:3])
    expression, adata, _ = normalise(tmp_path, counts, vocabulary)
    bin_expression([expression], vocabulary, tmp_path / "tokens", CONFIG.binning)
    store = open_store(tmp_path / "tokens")
    assert store.meta["bins"] == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 0, "5": 1}
    sample = tokens_of_expression("s1", adata, 4, 5)
    assert sample.below_one == 1
    assert [part.tolist() for part in store_in_memory(sample).tokens(0)] == [[1], [5]]


@pytest.mark.parametrize("denominator", ["library", "vocabulary"])
def test_counts_in_memory_give_the_tokens_of_the_files(tmp_path, vocabulary, denominator):
    """Fractional counts, and a gene that the vocabulary lacks: the same bits by both ways."""
    rng, symbols = np.random.default_rng(0), [SYMBOLS[2], "UNKNOWN1", SYMBOLS[0], SYMBOLS[1]]
    values = rng.gamma(0.5, 40, (30, 4)).astype(np.float32) * rng.integers(0, 2, (30, 4))
    library = values.sum(axis=1) * 1.5 + 1
    counts = write_counts(tmp_path / "s1.h5ad", values, symbols, library_size=library.tolist())
    settings = normalization(denominator=denominator)
    expression = normalise(tmp_path, counts, vocabulary, settings)[0]
    adata, genes = ad.read_h5ad(counts), read_vocabulary(vocabulary)
    match = match_genes(adata.var[["symbol", "gene_id"]], genes)
    by_files = read_tokens(expression, 5, genes)
    found = expression_of_counts(
        sparse.csr_matrix(adata.X), adata.obs.library_size.to_numpy(), match, settings
    )
    here = tokenize("s1", adata.obs_names.tolist(), found, match.measured, 5)
    for part in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(here.levels, part), getattr(by_files.levels, part))
    assert here.levels.nnz > 30
    assert (here.cells, here.below_one) == (by_files.cells, by_files.below_one)
    assert np.array_equal(here.measured, by_files.measured)


@pytest.mark.parametrize("denominator", ["library", "vocabulary"])
@pytest.mark.parametrize(("share", "expected"), [(1.0, 200), (0.5, 200), (0.25, 400), (0.1, 1000)])
def test_a_library_is_at_least_what_the_share_of_the_counts_tells(
    vocabulary, denominator, share, expected
):
    """Of 200 counts 100 are of known genes; by the vocabulary alone they are all that there is."""
    names = pd.DataFrame({"symbol": [*SYMBOLS[:2], "UNKNOWN1"], "gene_id": ""})
    match = match_genes(names, read_vocabulary(vocabulary))
    counts = sparse.csr_matrix([[40.0, 60.0, 100.0]])
    settings = normalization(denominator=denominator)
    found = expression_of_counts(counts, np.array([200.0]), match, settings, share)
    if denominator == "vocabulary":
        expected = max(100, 100 / share)
    assert found.data == pytest.approx(
        np.log2(1 + settings.target_sum * counts.data[:2] / expected)
    )


def test_tokenize_does_not_count_a_stored_zero(tmp_path, vocabulary):
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 19_999, 0]], SYMBOLS[:3])
    _, adata, _ = normalise(tmp_path, counts, vocabulary)
    adata.X = sparse.csr_matrix((adata.X.toarray().ravel(), [0, 1, 2], [0, 3]))
    assert adata.X.nnz == 3
    assert tokens_of_expression("s1", adata, 4, 5).below_one == 1


def test_bin_expression_refuses_scaled_expression_and_leaves_nothing(tmp_path, vocabulary):
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 2]], SYMBOLS[:2])
    expression, adata, _ = normalise(tmp_path, counts, vocabulary)
    adata.X = sparse.csr_matrix(adata.X.toarray() - 12)
    adata.write_h5ad(expression)
    with pytest.raises(ValueError, match=r"expression holds -.*Pass the output of normalize\(\)"):
        bin_expression([expression], vocabulary, tmp_path / "tokens", CONFIG.binning)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s1.h5ad", "vocabulary.tsv", "x"]


@pytest.mark.parametrize(
    "symbols", [["LYZ", "CD3D"], ["Lyz2", "Cd3d"], []], ids=["human", "mouse", "no counts"]
)
def test_a_sample_that_quality_control_emptied_passes_through(tmp_path, vocabulary, symbols):
    """Left out, perhaps because it is of another species: no cell, but a place in the corpus."""
    empty = write_counts(tmp_path / "s1.h5ad", np.empty((0, len(symbols))), symbols)
    full = write_counts(tmp_path / "s2.h5ad", [[10_000]], ["NKG7"])
    paths = [normalise(tmp_path, counts, vocabulary)[0] for counts in (empty, full)]
    assert read_json(paths[0].with_suffix(".json"))["cells"] == 0
    bin_expression(paths, vocabulary, tmp_path / "tokens", CONFIG.binning)
    store = open_store(tmp_path / "tokens")
    assert [entry["cells"] for entry in store.meta["sources"]] == [0, 1]
    assert store.cell_names() == ["s2_c0"]
    with pytest.raises(ValueError, match="none of the 1 samples has a cell"):
        bin_expression(paths[:1], vocabulary, tmp_path / "empty", CONFIG.binning)


def test_bin_expression_refuses_expression_of_another_vocabulary(tmp_path, vocabulary):
    counts = write_counts(tmp_path / "s1.h5ad", [[1, 2]], SYMBOLS[:2])
    expression, _, _ = normalise(tmp_path, counts, vocabulary)
    write_table(vocabulary, read_vocabulary(vocabulary)[::-1])
    with pytest.raises(ValueError, match=r"s1.h5ad was made with another vocabulary.*Normalise"):
        bin_expression([expression], vocabulary, tmp_path / "tokens", CONFIG.binning)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize("depth", [10_000, 20_000, 30_000, 70_000, 110_000, 1_310_000])
def test_expression_on_the_edge_of_two_bins_falls_into_the_upper_one(tmp_path, vocabulary, depth):
    """Exactly 1, 3, 7 and 15 per 10,000 are log2 1, 2, 3 and 4; one count less is below."""
    per_10k, share = np.array([1, 3, 7, 15]), depth // 10_000
    on, below = per_10k * share, per_10k * share - 1
    counts = write_counts(
        tmp_path / "s1.h5ad", [on, below], SYMBOLS, library_size=[float(depth)] * 2
    )
    expression = normalise(tmp_path, counts, vocabulary)[0]
    levels = tokens_of_expression("s1", ad.read_h5ad(expression), 4, 5).levels.toarray()
    assert bins_of_levels(levels, 5).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3]]
