"""Warnings about a file of cells beside the model that is to name them; see `cautions`."""

from scbert.cells.cautions import Caution

FEW_GENES = 0.5  # share of the model's genes
MISSING = 0.1  # share of the training cells' counts; without 7 % of them no label changed
CONTRADICTING = 0.01  # share of the ids and symbols; real files have 2 in 10,000 at most
ENOUGH_COUNTS = 0.8  # share of the counts that is of known genes
SHALLOW_PART = 0.25  # of the cells, below nearly all training cells
SHALLOW = 0.7  # of the training cells' depth; of less, more than 2 % of the labels change
LIBRARY_SIZE = "library_size"  # of obs, once cells were read and checked
LARGE_LIBRARY = 1.5  # of what is expected; of five files and selections of their genes 1.1 at most


def few_genes(found: int, used: int) -> list[Caution]:
    """Many of the model's genes were not measured; empty: enough were."""
    if found >= FEW_GENES * used:
        return []
    return [
        Caution(
            "few_genes",
            f"only {found:,} of the {used:,} genes that the model uses ({found / used:.1%}) are "
            "there; it expects of the others what is usual beside these. More labels are wrong "
            "than its card and their confidence say, and which cells are called unknown is not to "
            "be relied on.",
            "Give all genes that were measured, or fine-tune a model on cells with this panel of "
            "genes.",
        )
    ]


def contradicting_names(n: int, paired: int, examples: list[str]) -> list[Caution]:
    """Ids and symbols that are of different genes; empty: they agree.

    Parameters
    ----------
    n
        Of the `paired` genes whose id and symbol are both known.
    """
    if n <= CONTRADICTING * paired:
        return []
    return [
        Caution(
            "contradicting_names",
            f"{n:,} of the {paired:,} genes whose Ensembl id and symbol are both known "
            f"({n / paired:.1%}) have the id of one gene and the symbol of another "
            f"({', '.join(examples[:2])}, ...). The ids were used: if the symbols are right, "
            "counts are taken for those of other genes, and the labels are wrong.",
            "Look which are right, such as by marker genes, and leave the wrong ones out of var: "
            "one of them may have been sorted or shifted alone.",
        )
    ]


def missing_expression(share: float, *, summed: bool) -> list[Caution]:
    """Warn of missing genes that make up much of a cell, such as mitochondrial ones.

    Parameters
    ----------
    share
        Of the counts of the training cells, that is of the missing genes.
    summed
        Whether a cell's counts are the sum over the genes of the file, see `Amounts`.
    """
    if share <= MISSING:
        return []
    guessed, counted = "", ""
    if summed:
        guessed = ", and so many more counts of each cell"
        counted = (
            "the column of obs with all counts of each cell, summed before genes were left out "
            "(--library-size-key), or "
        )
    return [
        Caution(
            "missing_expression",
            f"genes that hold {share:.1%} of the counts of the training cells are not there; "
            f"the model expects of them what is usual beside the others{guessed}, so some labels "
            "may change.",
            "Give all genes that were measured, also mitochondrial and ribosomal ones, or "
            f"{counted}fine-tune a model on cells without these genes.",
        )
    ]


def few_known_counts(share: float | None, unknown: list[str]) -> list[Caution]:
    """Much of what was counted is of genes that the model has not got; empty: enough is known."""
    if share is None or share >= ENOUGH_COUNTS:
        return []
    examples = f" (not {', '.join(unknown[:3])}, ...)" if unknown else ""
    found = f"only {share:.1%} of the counts are of genes that the model knows{examples}; it does "
    advice = (
        "Use human gene symbols or Ensembl ids as gene names; for another tissue fine-tune a model "
        "with its genes (--add-genes), or take another encoder."
    )
    return [Caution("few_known_counts", f"{found}not see the others.", advice)]


def empty_cells(n: int, n_cells: int) -> list[Caution]:
    """Cells of which the model sees nothing; empty: there are none."""
    if not n:
        return []
    return [
        Caution(
            "empty_cells",
            f"{n:,} of the {n_cells:,} cells have no gene that the model knows with one count per "
            "10,000: what it says of them rests on nothing.",
            "Leave them out: they are droplets without a cell, a filter of genes left nothing, or "
            "--library-size-key gives far too many counts.",
        )
    ]


def shallow_cells(here: float, training: float, genes: int) -> list[Caution]:
    """Cells of far fewer counts than the training cells; empty: they are deep enough.

    Parameters
    ----------
    here, training
        Of `genes` genes, how many half of the cells express at most.
    """
    if here >= SHALLOW * training:
        return []
    return [
        Caution(
            "shallow_cells",
            f"half of the cells express at most {here:,.0f} of {genes:,} compared genes, of the "
            f"training cells {training:,.0f} ({here / training:.0%}): they have far fewer counts, "
            "or are of types that express few genes. The model takes what was not counted as not "
            "expressed: more labels are wrong than its card and their confidence say.",
            "Check types that are alike, such as CD4 and CD8 T, by markers or by a majority in "
            "clusters (--cluster-key); or fine-tune a model on cells of this depth.",
        )
    ]


def shallow_part(share: float, lowest: float, genes: int) -> list[Caution]:
    """Cells among others of far fewer counts than the training cells; empty: hardly any.

    Parameters
    ----------
    share
        Of the cells, that express fewer than `lowest` of `genes` genes; 5 % of the training cells
        do.
    """
    if share < SHALLOW_PART:
        return []
    return [
        Caution(
            "shallow_cells",
            f"{share:.0%} of the cells express fewer than {lowest:,.0f} of {genes:,} compared "
            "genes, of the training cells 5% do: these cells have few counts, are empty droplets, "
            "or are of types that express few genes. More of their labels are wrong than the card "
            "and their confidence say.",
            "Leave empty droplets out; check types that are alike by markers or by a majority in "
            "clusters (--cluster-key); or fine-tune a model on cells of this depth.",
        )
    ]


def few_genes_to_learn(share: float) -> list[Caution]:
    """Of fine-tuning: the reference has few of the encoder's genes; empty: it has enough."""
    if share >= FEW_GENES:
        return []
    return [
        Caution(
            "few_genes_to_learn",
            f"the reference has only {share:.1%} of the encoder's genes: the model learns from "
            "these alone, and cells are named by them alone.",
            "Give all genes that were measured, unless this panel of genes is what the cells to "
            "be named have, too.",
        )
    ]


def large_library(key: str, here: float, usual: float) -> list[Caution]:
    """All counts of each cell, of a column, are far more than those in the file; empty: they fit.

    Parameters
    ----------
    here, usual
        How many times the counts of the file's genes: the median of the cells, and what the
        training cells lead one to expect of these genes.
    """
    if here <= LARGE_LIBRARY * usual:
        return []
    named = "the library size that was read" if key == LIBRARY_SIZE else f"obs['{key}']"
    return [
        Caution(
            "large_library",
            f"by {named} a cell has {here:,.1f} times the counts of the genes in the file "
            f"(median), where {usual:,.1f} times are expected of these genes. If these are not the "
            "counts of this matrix, all genes are taken to be expressed less than they are: more "
            "labels are wrong, and more cells are called unknown.",
            "Give the column that sums the same counts, of UMIs and not of reads, or leave it out "
            "(--library-size-key) if the file has all genes.",
        )
    ]


def many_unknown(share: float, expected: float, n_cells: int) -> Caution:
    """More cells are unknown than among cells of known types."""
    return Caution(
        "many_unknown",
        f"{share:.1%} of the {n_cells:,} cells are called unknown; of cells of the model's types "
        f"{expected:.0%} are expected. They are of other types, of another protocol or tissue, "
        "were not read as what they are, or lack genes that were filled with zeros when samples "
        "were joined.",
        "Check with `scbert inspect` what was read. If you joined samples in which different genes "
        "were measured, annotate each alone, before joining. Look at scbert_novelty_score and at "
        "markers before you use their labels.",
    )


def not_calibrated() -> Caution:
    """Say that the model has no calibration."""
    return Caution(
        "not_calibrated",
        "the model is not calibrated: confidence is its plain softmax, and no cell is called "
        "unknown.",
        "Use a model that was fine-tuned with scbert if you need them.",
    )
