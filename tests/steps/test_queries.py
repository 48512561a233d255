"""A file that several jobs annotate is the same, byte for byte, as one that a single job does."""

import json

import numpy as np
import pytest
from scipy import sparse

from scbert.cells import matrix as matrix_module
from scbert.cells.how_to_read import HowToRead, Piece, read_piece
from scbert.config import QuerySettings
from scbert.steps.annotate_file import annotate_file
from scbert.steps.annotate_piece import annotate_piece
from scbert.steps.annotate_query import annotate_query
from scbert.steps.gather_query import gather_query
from scbert.steps.look_at_query import look_at_query

pytestmark = pytest.mark.slow

SETTINGS = QuerySettings(matrix="auto", scale="auto", library_size_key="", cluster_key="leiden")


@pytest.fixture
def query(toy, tmp_path, monkeypatch):
    """100 cells in clusters, read in parts of ten; two are empty, for a warning."""
    cells = toy.draw_cells(100, seed=5)
    cells.X = sparse.csr_matrix(cells.X.multiply(~np.isin(np.arange(100), [4, 95])[:, None]))
    cells.obs["leiden"] = [str(number % 7) for number in range(100)]
    monkeypatch.setattr(matrix_module, "VALUES_AT_ONCE", 10 * cells.n_vars)
    cells.write_h5ad(tmp_path / "query.h5ad")
    return tmp_path / "query.h5ad"


def scattered(query, model, n_pieces, out):
    scale = out.with_name("scale.json")
    look_at_query(query, model, SETTINGS, scale)
    pieces = []
    for name in (f"{number}-of-{n_pieces}" for number in range(1, n_pieces + 1)):
        pieces.append(out.with_name(f"{name}.safetensors"))
        annotate_piece(query, model, scale, name, SETTINGS, pieces[-1], "cpu")
    gather_query(query, model, scale, pieces[::-1], SETTINGS, out)
    return pieces


@pytest.mark.parametrize("n_pieces", [1, 3, 16])
def test_gathered_pieces_are_the_file_of_one_job(query, toy_run, tmp_path, n_pieces):
    """Of 16 pieces of ten parts, six have no cells."""
    scattered(query, toy_run.model, n_pieces, tmp_path / "gathered.h5ad")
    reading = HowToRead("auto", "auto", "")
    whole = tmp_path / "whole.h5ad"
    found = annotate_file(
        query, toy_run.model, whole, reading=reading, cluster_key="leiden", device="cpu"
    )
    assert found.uns["scbert"]["warnings"]["empty_cells"].startswith("2 of the 100 cells have no")
    assert (tmp_path / "gathered.h5ad").read_bytes() == whole.read_bytes()


def test_annotate_query_writes_what_annotate_writes(query, toy_run, tmp_path):
    annotate_query(query, toy_run.model, SETTINGS, tmp_path / "query_out.h5ad", "cpu")
    whole = tmp_path / "whole.h5ad"
    annotate_file(query, toy_run.model, whole, cluster_key="leiden", device="cpu")
    assert (tmp_path / "query_out.h5ad").read_bytes() == whole.read_bytes()


def test_logs_of_a_few_genes_are_gathered_alike(toy, toy_run, tmp_path, monkeypatch):
    """Their sum is found from the values of all cells, hence not from those of a piece."""
    cells = toy.draw_cells(40, seed=6)
    cells.X = cells.X.multiply(1e4 / cells.X.sum(axis=1)).log1p().tocsr()
    cells = cells[:, :-3].copy()
    cells.obs["leiden"] = "a"
    cells.write_h5ad(tmp_path / "query.h5ad")
    monkeypatch.setattr(matrix_module, "VALUES_AT_ONCE", 7 * cells.n_vars)
    scattered(tmp_path / "query.h5ad", toy_run.model, 2, tmp_path / "gathered.h5ad")
    whole = tmp_path / "whole.h5ad"
    annotate_file(tmp_path / "query.h5ad", toy_run.model, whole, cluster_key="leiden", device="cpu")
    assert json.loads((tmp_path / "scale.json").read_text())["kind"] == "log1p"
    assert (tmp_path / "gathered.h5ad").read_bytes() == whole.read_bytes()


def test_pieces_of_another_file_or_model_are_refused(query, toy_run, mean_run, tmp_path):
    pieces = scattered(query, toy_run.model, 2, tmp_path / "gathered.h5ad")
    scale, out = tmp_path / "scale.json", tmp_path / "other.h5ad"
    with pytest.raises(ValueError, match=r"the pieces are 1 of 2 by .*, but 1 to 1 of one file"):
        gather_query(query, toy_run.model, scale, pieces[:1], SETTINGS, out)
    with pytest.raises(ValueError, match=r"the pieces are 1 of 2 by .* are needed. Delete them"):
        gather_query(query, mean_run.model, scale, pieces, SETTINGS, out)
    pieces[0].write_bytes(pieces[0].read_bytes()[:100])
    with pytest.raises(ValueError, match=r"1-of-2.safetensors is damaged .* Delete it"):
        gather_query(query, toy_run.model, scale, pieces, SETTINGS, out)
    assert not out.exists()


def test_pieces_have_every_part_once():
    parts = [part for number in range(1, 9) for part in Piece(number, 8).of_parts(21)]
    assert parts == list(range(21))
    assert read_piece("2-of-8") == Piece(2, 8)
    for wrong in ("9-of-8", "0-of-8", "2"):
        with pytest.raises(ValueError, match="but a name such as 2-of-8 is needed"):
            read_piece(wrong)
