"""Types and genes that only the second of two datasets has are named."""

from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.benchmark.shared_cells import shared_cells
from scbert.benchmark.transfers import judge_transfers


def results(*lines):
    columns = ["dataset", "protocol", "task", "query_only_types"]
    return SimpleNamespace(rooms=SimpleNamespace(tasks=pd.DataFrame(lines, columns=columns)))


def test_types_that_only_the_query_has_are_said_once_for_all_seeds():
    pair = ["a_to_b", "across_datasets", "across_datasets-all-0", "T cell, unassigned"]
    all_known = ["b_to_a", "across_datasets", "across_datasets-all-0", ""]
    within = ["a", "new_type", "new_type-all-0", "B cell"]
    found = judge_transfers(results(pair, pair, all_known, within))
    assert found == [
        "a to b: types that only the query has: T cell, unassigned. No method can name them: "
        "their cells are in no score but novelty.",
        "b to a: all types of the query are learned.",
    ]
    assert judge_transfers(results(within)) == []


def test_cells_that_were_in_both_files_are_said():
    found = results(["a_to_b", "across_datasets", "across_datasets-all-0", ""])
    found.rooms.tasks["left_out"] = "18"
    assert judge_transfers(found) == [
        "a to b: all types of the query are learned. 18 cells are in both files and were not "
        "learned from."
    ]


def write(path, ids, symbols, counts):
    var = pd.DataFrame({"symbol": symbols}, index=[f"ENSG{n}" for n, _ in enumerate(symbols)])
    cells = ad.AnnData(sparse.csr_matrix(np.array(counts, dtype=np.float32)), var=var)
    cells.obs_names = ids
    cells.write_h5ad(path)
    return path


def test_a_cell_is_the_same_by_its_id_and_the_counts_of_the_genes_of_both(tmp_path):
    """A barcode may be that of another run; a cell without counts says nothing."""
    one = write(
        tmp_path / "one.h5ad",
        ["AAA", "CCC", "GGG", "TTT"],
        ["INS", "GCG", "MALAT1"],
        [[9, 0, 3], [0, 7, 1], [0, 0, 8], [1, 1, 1]],
    )
    other = write(
        tmp_path / "other.h5ad",
        ["TTT", "GGG", "CCC", "ACG"],
        ["GCG", "PPY", "INS"],
        [[2, 0, 1], [0, 4, 0], [7.0004, 5, 0], [0, 0, 9]],
    )
    assert shared_cells(one, other).tolist() == [1]
    assert shared_cells(other, one).tolist() == [2]
    assert shared_cells(one, write(tmp_path / "none.h5ad", ["X"], ["INS"], [[1]])).tolist() == []
