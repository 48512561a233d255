"""Five studies in the layout of their authors' files, which a few made-up cells stand in for."""

import gzip

import numpy as np
import pytest

from scbert.cells.read import read_cells


def table(*lines, separator="\t"):
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


def baron(folder):
    """Two donors and a mouse; the third gene is in one of the donors only."""
    heading = ("", "barcode", "assigned_cluster", "INS", "GCG")
    for number, donor in ((57, "human1"), (58, "human2"), (61, "mouse1")):
        lines = [
            (f"{donor}_lib1.final_cell_0001", "GATGACGGAC-GGTGGGAT", "beta", 9, 0),
            (f"{donor}_lib1.final_cell_0002", "GAGCGTTGCT-ACCTTCTT", "alpha", 0, 7),
        ]
        more = [("PRSS1",), (1,), (2,)] if donor == "human2" else [()] * 3
        rows = [[*line, *last] for line, last in zip([heading, *lines], more, strict=True)]
        file = folder / f"GSM22307{number}_{donor}_umifm_counts.csv.gz"
        file.write_bytes(gzip.compress(table(*rows, separator=",").encode()))


def muraro(folder):
    """R left out the first heading of both tables, and wrote - as a dot in the second."""
    counts = table(
        ("D28-1_1", "D28-1_2", "D30-3_96"),
        ("INS__chr11", 1.002, 0, 5.02),
        ("GCG__chr2", 0, 3.0, 0),
        ("PGM5P2__chr2", 1, 1, 1),
        ("PGM5P2__chr9", 1, 2, 0),
        ("ERCC-00002__chrERCC-00002", 40, 40, 40),
    )
    (folder / "GSE85241_cellsystems_dataset_4donors_updated.csv").write_text(counts)
    types = table(("x",), ("D28.1_1", "beta"), ("D28.1_2", "alpha"))
    (folder / "cell_type_annotation_Cels2016.csv").write_text(types)


def segerstolpe(folder):
    """RPKM and then counts of each cell, which the first line names once."""
    counts = table(
        ("#samples", "HP1502401_J13", "HP1502401_H13"),
        ("INS", "NM_000207+NM_001185097", 800.5, 0.1, 90, 1),
        ("NA", "NM_1", 3.5, 0, 4, 0),
        ("SNORD1", "NR_1", 0, 2.5, 0, 2),
        ("SNORD1", "NR_2", 0, 1.5, 0, 3),
        ("ERCC_0.01430512:mix1_0.02861023:mix2", "ERCC-00012", 0, 0, 7, 7),
        ("eGFP", "eGFP", 0, 0, 5, 5),
    )
    (folder / "pancreas_refseq_rpkms_counts_3514sc.txt").write_text(counts)
    good, donor = "Characteristics[single cell well quality]", "Characteristics[individual]"
    sdrf = table(
        ("Source Name", "Extract Name", donor, good, "Characteristics[cell type]", "Protocol REF"),
        ("HP1502401_H13", "HP1502401_H13", "H1", "low quality cell", "not applicable", "P-1"),
        ("HP1502401_J13", "HP1502401_J13", "H1", "OK", "beta cell", "P-1"),
    )
    (folder / "E-MTAB-5061.sdrf.txt").write_text(sdrf)


def xin(folder):
    """Genes are numbers of NCBI, one of which the table of symbols lacks."""
    values = table(("gene.id", "Sample_1", "Sample_2"), (3630, 12.5, 0), (2641, 0, 3.25), (9, 1, 1))
    file = folder / "GSE81608_human_islets_rpkm.txt.gz"
    file.write_bytes(gzip.compress(values.encode()))
    symbols = table(("gene.id", "symbol"), (3630, "INS"), (2641, "GCG"), separator=",")
    (folder / "human_gene_annotation.csv").write_text(symbols)
    cells = table(
        ("Sample name", "donor.id", "cell.type"),
        ("Sample 1", "Non T2D 1", "beta"),
        ("Sample 2", "T2D 2", "alpha.contaminated"),
    )
    (folder / "human_islet_cell_identity.txt").write_text(cells)


def macparland(folder):
    values = table(
        ("", "P1TLH_AAACCTGAGCAGCCTC_1", "P2TLH_AAACCTGTCCTCATTA_1"),
        ("ALB", 5.5, 0),
        ("CD3E", 0, 1.25),
        separator=",",
    )
    (folder / "GSE115469_Data.csv").write_text(values)
    cells = table(
        ("CellName", "Sample", "Cluster#", "CellType"),
        ("P2TLH_AAACCTGTCCTCATTA_1", "P2TLH", 2, "alpha-beta_T_Cells"),
        ("P1TLH_AAACCTGAGCAGCCTC_1", "P1TLH", 5, "Hepatocyte_5"),
    )
    (folder / "GSE115469_CellClusterType.txt").write_text(cells)


READ = {  # study -> genes, numbers, column of types and they, column of batches and they
    baron: (
        ["INS", "GCG"],
        [[9, 0], [0, 7]] * 2,
        ("assigned_cluster", ["beta", "alpha"] * 2),
        ("donor", ["human1"] * 2 + ["human2"] * 2),
    ),
    muraro: (
        ["INS", "GCG", "PGM5P2"],
        [[1.002, 0, 2], [0, 3, 3], [5.02, 0, 1]],
        ("cell_type", ["beta", "alpha", ""]),
        ("donor", ["D28", "D28", "D30"]),
    ),
    segerstolpe: (
        ["INS", "NA", "SNORD1"],
        [[90, 4, 0], [1, 0, 5]],
        ("Characteristics[cell type]", ["beta cell", ""]),
        ("Characteristics[individual]", ["H1", "H1"]),
    ),
    xin: (
        ["INS", "GCG"],
        [[12.5, 0], [0, 3.25]],
        ("cell.type", ["beta", "alpha.contaminated"]),
        ("donor.id", ["Non T2D 1", "T2D 2"]),
    ),
    macparland: (
        ["ALB", "CD3E"],
        [[5.5, 0], [0, 1.25]],
        ("CellType", ["Hepatocyte_5", "alpha-beta_T_Cells"]),
        ("Sample", ["P1TLH", "P2TLH"]),
    ),
}


@pytest.mark.parametrize("study", READ)
def test_read_cells_reads_a_study_as_its_authors_published_it(study, tmp_path):
    study(tmp_path)
    cells = read_cells(tmp_path)
    genes, values, types, batches = READ[study]
    assert cells.var_names.tolist() == genes
    assert cells.X.toarray().tolist() == np.array(values, dtype=np.float32).tolist()
    for column, expected in (types, batches):
        assert cells.obs[column].tolist() == expected


def test_read_cells_reads_a_study_part_by_part(tmp_path, monkeypatch):
    muraro(tmp_path)
    whole = read_cells(tmp_path)
    monkeypatch.setattr("scbert.cells.studies.ROWS_AT_ONCE", 2)
    parts = read_cells(tmp_path)
    assert (whole.X != parts.X).nnz == 0
    assert whole.var_names.equals(parts.var_names)


@pytest.mark.parametrize("study", [muraro, segerstolpe, xin, macparland])
def test_a_study_without_its_table_of_cells_is_refused_with_the_missing_name(study, tmp_path):
    study(tmp_path)
    names = ("cell_type_annotation_Cels2016.csv", "E-MTAB-5061.sdrf.txt")
    names += ("human_islet_cell_identity.txt", "GSE115469_CellClusterType.txt")
    (missing,) = [name for name in names if (tmp_path / name).exists()]
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        read_cells(tmp_path)


def test_a_study_whose_numbers_are_cut_off_is_refused(tmp_path):
    macparland(tmp_path)
    (tmp_path / "GSE115469_Data.csv").write_text(",cell1,cell2\nALB,5.5,high\n")
    with pytest.raises(ValueError, match=r"cannot be read as the study.*GSE115469_Data\.csv"):
        read_cells(tmp_path)
