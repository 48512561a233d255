"""The page that ties an explanation's tables and figures together, for people."""

from typing import Any

import pandas as pd

from scbert.evidence.markdown import plain

Json = dict[str, Any]


def write_page(about: Json, genes: pd.DataFrame, markers: pd.DataFrame) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    about
        The content of explanation.json.
    genes
        The table of genes.
    markers
        The table of markers; it may be empty.
    """
    parts = [
        f"# Which genes speak for which cell type: {about['name']}",
        f"{sum(about['cells'].values())} cells of {len(about['cells'])} types "
        f"({about['labels_from']}), model `{about['model_sha256'][:12]}`.",
        "## Which method can be believed",
        "\n".join(f"- {line}" for line in about["verdicts"]),
        "![Fall of the label's probability](deletion.svg)",
        "A method is called faithful if, averaged over all numbers of genes, removing the top "
        "genes of a cell's type lowers the probability of its label more than removing other "
        "genes that it expresses, of the same bins, with the whole interval above 0. Each cell is "
        "tested with a ranking that comes from other cells. All numbers: deletion.tsv.",
        "## Genes of each type",
        _table_of_types(about, genes),
        "![Integrated gradients](heatmap.svg)",
        "![Attention sums](attention.svg)",
        "All ranked genes, by every method, with scores, z-scores across types and ranks: "
        "genes.tsv.",
        "## Known markers",
        _markers(markers),
        "## Gene sets",
        "The ten sets with the smallest p of each type and method are in gene_sets.tsv; adjusted_p "
        "(Benjamini and Hochberg) counts all sets and types of a method."
        if about["gene_sets"]
        else "No gene sets were given.",
        "## What to keep in mind",
        "\n".join(f"- {note}" for note in about["notes"]),
    ]
    return "\n\n".join(parts) + "\n"


def _table_of_types(about: Json, genes: pd.DataFrame) -> str:
    methods = list(about["methods"])
    lines = [
        "| cell type | cells | " + " | ".join(about["methods"][m]["title"] for m in methods) + " |",
        "|---|---:|" + "---|" * len(methods),
    ]
    for name, of_type in genes.groupby("cell_type", sort=False):
        best = []
        for method in methods:
            ranked = of_type[of_type[f"{method}_rank"].between(1, 8)]
            best.append(" ".join(ranked.sort_values(f"{method}_rank").gene))
        lines.append(f"| {plain(name)} | {about['cells'][name]} | " + " | ".join(best) + " |")
    return "\n".join(lines)


def _markers(markers: pd.DataFrame) -> str:
    if markers.empty:
        return "No list of markers was given."
    lines = ["| cell type | method | held against | by | overlap | adjusted p | genes |"]
    lines.append("|---|---|---|---|---:|---:|---|")
    lines += [
        f"| {plain(row.cell_type)} | {row.method} | {plain(row.gene_set)} | {row.matched_by} | "
        f"{row.overlap} of {row.set_genes} | {row.adjusted_p:.1e} | {row.genes} |"
        for row in markers.itertuples()
    ]
    return "\n".join(lines)
