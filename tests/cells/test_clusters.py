"""PanglaoDB's clusters and cell types, as its files have them."""

import pandas as pd
import pytest

from scbert.cells.samples import join_clusters

CELLS = pd.Index([f"SRA1_SRS2_{barcode}" for barcode in ("AAAC", "CCCG", "GGGT", "TTTA")])
TYPES = (
    '"SRA1","SRS2","0","Monocytes","0.00003","0.01","16.9"\n'
    '"SRA1","SRS2","1","Unknown","0.0009","0.07",\\N\n'
    '"SRA1","SRS9","3","T cells","0.0009","0.07","2"\n'
    '"SRA1","SRS2","4","B, ""memory""","0.0009","0.07","2"\n'
    '"SRA1","SRS2","5",\\N,"0.0009","0.07","2"\n'
)


def join(folder, clusters, types=TYPES):
    (folder / "c.txt").write_text(clusters)
    (folder / "types.txt").write_text(types)
    return join_clusters(CELLS, "SRA1_SRS2", folder / "c.txt", folder / "types.txt")


def test_join_clusters_by_barcode_and_cluster(tmp_path):
    """Unknown is PanglaoDB's word; cluster 3 has a type in another sample only."""
    found, notes = join(tmp_path, "AAAC 0\nTTTA 1\nGGGT 3\nACGT 0\n")
    assert found.cluster.tolist() == ["0", "", "3", "1"]
    assert found.cell_type.tolist() == ["Monocytes", "", "", "Unknown"]
    assert found.index.equals(CELLS)
    assert notes == []


def test_join_clusters_reads_quotes_and_unknowns(tmp_path):
    found, _ = join(tmp_path, "AAAC 4\nCCCG 5\n")
    assert found.cell_type.tolist() == ['B, "memory"', "", "", ""]


def test_join_clusters_of_a_sample_without_published_clusters(tmp_path):
    found, notes = join(tmp_path, "")
    assert (found == "").all(axis=None)
    assert notes == []


def test_join_clusters_says_when_no_barcode_fits(tmp_path):
    found, notes = join(tmp_path, "ACGT 0\nTGCA 1\n")
    assert (found == "").all(axis=None)
    assert notes == ["None of the 2 barcodes of c.txt is among the 4 cells."]


@pytest.mark.parametrize(
    ("clusters", "types", "message"),
    [
        ("AAAC\n", TYPES, "c.txt holds the line 'AAAC', but a barcode and a cluster are needed"),
        ("<html> not found </html>", TYPES, "holds the line '<html> not found </html>'"),
        ("AAAC 0\nAAAC 1\n", TYPES, "c.txt lists a barcode twice, in 2 lines"),
        ("AAAC 0\n", '"SRA1","SRS2"\n', "types.txt has 2 columns, but PanglaoDB's table has 7"),
    ],
)
def test_join_clusters_refuses_other_files(tmp_path, clusters, types, message):
    with pytest.raises(ValueError, match=message):
        join(tmp_path, clusters, types)
