"""PanglaoDB's files of counts as they are."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import rdata
import yaml
from scipy import sparse

from scbert.cells.r_files import read_rdata
from scbert.config import ReadSettings, load_config
from scbert.files import read_json
from scbert.steps.read import read_counts

ROOT = Path(__file__).parents[1]
CONFIG = load_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
SHARED = Path(os.environ.get("SCBERT_SHARED_DATA", ROOT / "../shared/data")) / "panglaodb"
HUMAN = {  # genes (rows of sm), after those of one Ensembl id were added up
    "SRA605557_SRS2493626": 9793,
    "SRA617020_SRS2566664": 7947,
    "SRA705190_SRS4139632": 7664,
    "SRA782908_SRS3815594": 2759,
    "SRA823298_SRS4144446": 6995,
}
needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED} is absent (set SCBERT_SHARED_DATA)"
)


def read_sm(path):
    """Read the object of counts as it is: x, i, p, Dim and Dimnames."""
    with pytest.warns(UserWarning, match="Missing constructor"):
        return rdata.read_rda(path)["sm"]


def rdata_file(sample):
    return SHARED / f"rdata/{sample}.sparse.RData"


@needs_shared_data
@pytest.mark.parametrize("sample", HUMAN)
def test_read_rdata_of_a_human_sample(sample):
    adata = read_rdata(rdata_file(sample))
    assert adata.shape == (50, HUMAN[sample])
    assert adata.X.dtype == np.float32
    assert adata.X.data.min() > 0
    assert adata.obs_names.str.fullmatch(sample + "_[ACGTN]{12,16}").all()
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    with_id = adata.var[adata.var.gene_id != ""]
    assert with_id.gene_id.str.fullmatch(r"ENSG\d{11}").all()
    assert with_id.index.tolist() == with_id.gene_id.tolist()
    assert len(with_id) == adata.n_vars
    assert not adata.var.symbol.str.contains("ENSG|PAR_Y").any()


@needs_shared_data
def test_read_rdata_splits_symbol_and_id_of_known_genes():
    var = read_rdata(rdata_file("SRA605557_SRS2493626")).var
    assert var.symbol["ENSG00000121410"] == "A1BG"
    assert var.symbol["ENSG00000090382"] == "LYZ"
    assert (var.symbol == "HLA-A").sum() == 1  # a hyphen of the symbol is no separator


@needs_shared_data
def test_read_rdata_adds_up_the_rows_of_a_gene_that_x_and_y_share():
    """CD99_ENSG00000002586.18 and CD99_ENSG00000002586.18_PAR_Y, by rdata itself."""
    path = rdata_file("SRA823298_SRS4144446")
    sm = read_sm(path)
    matrix = sparse.csc_matrix((sm.x, sm.i, sm.p), shape=tuple(sm.Dim))
    names = [str(name) for name in sm.Dimnames[0]]
    rows = [row for row, name in enumerate(names) if name.startswith("CD99_")]
    assert [names[row].partition(".18")[2] for row in rows] == ["", "_PAR_Y"]
    found = read_rdata(path)[:, "ENSG00000002586"]
    assert found.var.symbol.tolist() == ["CD99"]
    expected = matrix[rows].sum(axis=0)
    assert found.X.toarray().ravel() == pytest.approx(np.asarray(expected).ravel())


@needs_shared_data
def test_read_rdata_of_the_mouse_sample():
    adata = read_rdata(rdata_file("SRA578634_SRS2302659"))
    assert adata.shape == (50, 13_272)
    assert adata.var.gene_id.str.fullmatch(r"ENSMUSG\d{11}").all()


@needs_shared_data
def test_read_rdata_keeps_every_count():
    """Read by rdata itself: the sum over the file, whatever the names of its rows."""
    path = rdata_file("SRA782908_SRS3815594")
    sm = read_sm(path)
    adata = read_rdata(path)
    assert adata.X.sum() == pytest.approx(sm.x.sum())
    per_cell = np.add.reduceat(sm.x, sm.p[:-1])  # column by column
    assert np.asarray(adata.X.sum(axis=1)).ravel() == pytest.approx(per_cell)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x1f\x8b garbage", b"RDX3\nX\n"])
def test_read_rdata_refuses_garbage(tmp_path, content):
    path = tmp_path / "SRA1_SRS1.sparse.RData"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"RData cannot be read as an R file \(.*Download it again"
    ):
        read_rdata(path)


@needs_shared_data
def test_read_rdata_refuses_a_truncated_file(tmp_path):
    content = rdata_file("SRA782908_SRS3815594").read_bytes()
    path = tmp_path / "SRA782908_SRS3815594.sparse.RData"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cannot be read as an R file \(.*Download it again"):
        read_rdata(path)


@needs_shared_data
def test_read_counts_takes_fractions_of_panglaodb_as_counts(tmp_path):
    """PanglaoDB divides a read between genes; 20 of these 50 cells are nearly empty."""
    settings = ReadSettings(
        sample="s",
        source="PanglaoDB",
        counts=CONFIG.counts.model_copy(update={"min_genes": 200}),
        normalization=CONFIG.normalization,
        matrix="auto",
        scale="auto",
        dataset=None,
    )
    cells = rdata_file("SRA782908_SRS3815594")
    read_counts(cells, tmp_path / "s.h5ad", tmp_path / "s.json", settings)
    counts, quality = ad.read_h5ad(tmp_path / "s.h5ad"), read_json(tmp_path / "s.json")
    assert quality["scale"] == "raw counts"
    assert quality["cells_read"] == 50
    assert 0 < counts.n_obs == quality["cells_kept"] < 50
    assert counts.obs.n_genes.min() >= 200
    assert (counts.X.data != np.round(counts.X.data)).any()
    assert list(counts.obs) == ["library_size", "n_genes"]
