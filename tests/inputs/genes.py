"""Variants: other names, orders and choices of genes, and what is no gene."""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from scbert.cells.read import gene_names
from scbert.genes.matching import match_genes
from scbert.shipped import ENCODER, shipped_models
from tests.inputs.expression import RNG, log1p, sums, then, varying
from tests.inputs.variant import changed

NAMES, CHOICE, OTHERS = "names of genes", "choice of genes", "more than genes"


@cache
def known():
    """The genes of the package, with the symbol as index."""
    path = shipped_models()[ENCODER] / "genes.tsv"
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False).set_index("symbol")


def ids(cells):
    """Return the Ensembl id of each gene, or its name where the model does not know it."""
    table = known().reset_index()
    number = match_genes(gene_names(cells.var), table).index
    found = pd.Series(table.gene_id.to_numpy()[number])
    usable = (number >= 0) & (found != "") & ~found.duplicated()
    return np.where(usable, found, cells.var_names)


def named(function):
    """Give the genes the names that a function of the cells returns."""

    def change(cells):
        cells.var_names = pd.Index(np.asarray(function(cells), dtype=object))

    return change


def spelled(function):
    return named(lambda cells: [function(name) for name in cells.var_names])


def column(name, function, index=None):
    """Add a column of var, and then name the index."""

    def change(cells):
        cells.var[name] = np.asarray(function(cells), dtype=object)
        if index is not None:
            cells.var_names = pd.Index(np.asarray(index(cells), dtype=object))

    return change


def symbols(cells):
    return cells.var_names.to_numpy()


def numbers(cells):
    return [str(n) for n in range(cells.n_vars)]


def versioned(cells):
    return [
        f"{name}.{n % 17 + 1}" if name.startswith("ENSG") else name
        for n, name in enumerate(ids(cells))
    ]


def older(cells):
    """A previous name for each gene that has one."""
    aliases = known().aliases.str.split("|").str[0]
    first = aliases[
        (aliases != "") & ~aliases.duplicated(keep=False) & ~aliases.isin(cells.var_names)
    ]
    return [first.get(name, name) for name in cells.var_names]


def both(cells):
    return [f"{name}_{number}" for name, number in zip(cells.var_names, ids(cells), strict=True)]


def without_dashes(cells):
    """Of two that would be one, as TRAV1-1 and TRAV11, both stay as they are."""
    names = cells.var_names.str.replace("-", "", regex=False)
    return np.where(names.duplicated(keep=False), cells.var_names, names)


def shifted(cells):
    return np.roll(ids(cells), 1)


def repeated(cells):
    other = cells[:, [*range(cells.n_vars), 0, 1, 2]].copy()
    other.var_names = [*cells.var_names, *cells.var_names[:3]]
    return other


def made_unique(cells):
    other = repeated(cells)
    other.var_names_make_unique()
    return other


def nullable(cells):
    cells.var_names = pd.Index(pd.array(cells.var_names.astype(str), dtype="string"))


def order(function):
    return lambda cells: cells[:, function(cells)].copy()


def keep(function):
    return lambda cells: cells[:, np.asarray(function(cells), dtype=bool)].copy()


def in_cells(n):
    return keep(lambda cells: cells.X.getnnz(axis=0) >= n)


def without(*starts):
    return keep(lambda cells: ~cells.var_names.str.startswith(starts))


def coding(cells):
    return cells.var_names.map(known().gene_type) == "gene with protein product"


def most(n):
    return keep(lambda cells: np.argsort(np.argsort(-np.asarray(cells.X.sum(axis=0)).ravel())) < n)


def beside(names, kind, share, column=True):
    """Add features that are no genes; together they have a share of each cell's counts."""

    def change(cells):
        rates = np.outer(sums(cells.X) * share, np.full(len(names), 1 / len(names)))
        more = sparse.csr_matrix(RNG(3).poisson(rates).astype(np.float32))
        var = pd.DataFrame(index=[*cells.var_names, *names])
        if column:
            var["feature_types"] = ["Gene Expression"] * cells.n_vars + [kind] * len(names)
        return ad.AnnData(sparse.hstack([cells.X, more], format="csr"), cells.obs, var)

    return change


ANTIBODIES = [f"CD{n}_TotalSeqB" for n in range(3, 23)]
BARE = ["CD3", "CD4", "CD8", "CD14", "CD19", "CD20", "CD56", "CD45RA", "CD45RO", "CD16"]
BARE = [name for name in BARE if name not in ("CD4", "CD14", "CD19")]  # which are genes, too
SPIKES = [f"ERCC-{n:05d}" for n in range(1, 93)]
PEAKS = [f"chr1:{n}000-{n}500" for n in range(1, 2001)]
MOUSE = [f"mm10___Gene{n}" for n in range(500)]
HASHTAGS = [f"Hashtag{n}" for n in range(1, 9)]
PANEL = [
    "CD3D",
    "CD3E",
    "CD4",
    "CD8A",
    "MS4A1",
    "CD79A",
    "NKG7",
    "GNLY",
    "LYZ",
    "CD14",
    "FCGR3A",
    "FCER1A",
    "PPBP",
    "IL7R",
]

VARIANTS = [
    changed(NAMES, "symbols, gene_ids beside", column("gene_ids", ids)),
    changed(NAMES, "Ensembl ids", named(ids)),
    changed(NAMES, "Ensembl ids with versions", named(versioned)),
    changed(NAMES, "Ensembl ids, feature_name beside", column("feature_name", symbols, ids)),
    changed(NAMES, "numbers, gene_symbols beside", column("gene_symbols", symbols, numbers)),
    changed(NAMES, "numbers, Ensembl ids in gene_id beside", column("gene_id", ids, numbers)),
    changed(NAMES, "numbers alone", named(numbers), refused="symbols or Ensembl ids"),
    changed(NAMES, "older symbols and aliases", named(older)),
    changed(NAMES, "lower case", spelled(str.lower), refused="symbols or Ensembl ids"),
    changed(
        NAMES,
        "as mouse genes are spelled",
        spelled(str.capitalize),
        refused="symbols or Ensembl ids",
    ),
    changed(
        NAMES,
        "GRCh38_ before each",
        spelled(lambda name: f"GRCh38_{name}"),
        refused="symbols or Ensembl ids",
    ),
    changed(NAMES, "SYMBOL_ENSG", named(both), refused="symbols or Ensembl ids"),
    changed(
        NAMES,
        "a space behind each",
        spelled(lambda name: f"{name} "),
        refused="symbols or Ensembl ids",
    ),
    changed(NAMES, "3 names twice", repeated, refused="Ensembl ids as var_names, or sum"),
    changed(NAMES, "3 names twice, made unique (-1)", made_unique),
    changed(NAMES, "nullable strings", nullable),
    changed(NAMES, "without dashes (HLADRA)", named(without_dashes)),
    changed(NAMES, "with dots for dashes (HLA.DRA)", spelled(lambda n: n.replace("-", "."))),
    changed(NAMES, "symbols, gene_ids beside shifted", column("gene_ids", shifted)),
    changed(NAMES, "in alphabetical order", order(lambda c: np.argsort(c.var_names))),
    changed(NAMES, "in reverse", order(lambda c: slice(None, None, -1))),
    changed(NAMES, "in random order", order(lambda c: RNG(4).permutation(c.n_vars))),
    changed(CHOICE, "in 3 cells or more", in_cells(3)),
    changed(CHOICE, "in 10 cells or more", in_cells(10)),
    changed(CHOICE, "in 3 cells or more, log1p before", then(log1p(), in_cells(3))),
    changed(CHOICE, "in 3 cells or more, log1p after", then(in_cells(3), log1p())),
    changed(CHOICE, "without MT-", without("MT-")),
    changed(CHOICE, "without MT-, RPL and RPS", without("MT-", "RPL", "RPS")),
    changed(
        CHOICE,
        "without MT-, RPL and RPS, log1p before",
        then(log1p(), without("MT-", "RPL", "RPS")),
    ),
    changed(CHOICE, "without MALAT1", without("MALAT1")),
    changed(CHOICE, "protein-coding genes", keep(coding)),
    changed(CHOICE, "5,000 with most counts", most(5000)),
    changed(CHOICE, "1,000 with most counts", most(1000)),
    *(changed(CHOICE, f"{n:,} HVG", varying(n)) for n in (500, 1000, 2000, 3000, 5000)),
    changed(
        CHOICE,
        "14 markers",
        keep(lambda c: c.var_names.isin(PANEL)),
        refused="of the .* genes that the model uses",
    ),
    changed(
        OTHERS,
        "antibodies (TotalSeq), feature_types",
        beside(ANTIBODIES, "Antibody Capture", 1.0),
    ),
    changed(
        OTHERS,
        "antibodies (CD3 ...), feature_types",
        beside(BARE, "Antibody Capture", 1.0),
    ),
    changed(OTHERS, "antibodies (CD3 ...), no types", beside(BARE, "", 1.0, column=False)),
    changed(
        OTHERS,
        "hashtags, feature_types",
        beside(HASHTAGS, "Multiplexing Capture", 0.3),
    ),
    changed(OTHERS, "spike-ins (ERCC)", beside(SPIKES, "", 0.5, column=False)),
    changed(OTHERS, "peaks (multiome), feature_types", beside(PEAKS, "Peaks", 1.0)),
    changed(
        OTHERS,
        "genes of mouse beside (barnyard)",
        beside(MOUSE, "", 0.2, column=False),
    ),
]
