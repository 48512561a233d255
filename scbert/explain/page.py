"""The page that ties an explanation's tables and figures together, for people."""

from typing import Any

import pandas as pd

from scbert.explain.deletion import CONTROL
from scbert.report.text import NOTHING, plain, table, with_interval

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
        f"# Genes behind each cell type: {about['name']}",
        f"{sum(about['cells'].values())} cells of {len(about['cells'])} types "
        f"({about['labels_from']}), model `{about['model_sha256'][:12]}`.",
        "## Which method can be believed",
        "\n".join(f"- {line}" for line in about["verdicts"]),
        "![Fall of the label's probability](deletion.svg)",
        "A method that asks the model passes if, averaged over all numbers of genes, removing the "
        "top genes of a cell's type lowers the probability of its label more than removing other "
        "genes that it expresses, of the same bins, and more than removing the top genes of the "
        "control without a model, both with the whole interval above 0. Each cell is tested with a "
        "ranking that comes from other cells. All numbers: deletion.tsv.",
        _table_of_verdicts(about),
        "## Genes of each type",
        _table_of_types(about, genes),
        "A z-score across types is highest for genes that the other types hardly express, however "
        "little they add; the mean says how much a gene adds, whichever types express it.",
        "![Integrated gradients, by mean](heatmap.svg)",
        "![Attention sums](attention.svg)",
        "All ranked genes, by every method, with scores, z-scores across types and ranks: "
        "genes.tsv.",
        "## Known markers",
        _found(about),
        _markers(markers),
        "## Gene sets",
        "The ten sets with the smallest p of each type and method are in gene_sets.tsv; adjusted_p "
        "(Benjamini and Hochberg) counts all sets and types of a method."
        if about["gene_sets"]
        else "No gene sets were given.",
        "## What to keep in mind",
        "\n".join(f"- {note}" for note in about["notes"]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table_of_verdicts(about: Json) -> str:
    rows = [
        (
            one["title"],
            f"{one['top']:.3f}",
            f"{one['random']:.3f}",
            _interval(one, "difference", ""),
            NOTHING if method == CONTROL else _interval(one, "over_control", "over_control_"),
            one["verdict"],
        )
        for method, one in about["methods"].items()
    ]
    header = ("genes ranked by", "fall, top genes", "fall, random genes", "top less random")
    return table((*header, "top less the control's top", "verdict"), rows)


def _interval(one: Json, name: str, prefix: str) -> str:
    ends = {end: one[prefix + end] for end in ("low", "high")}
    return with_interval(one[name], ends, "+")


def _table_of_types(about: Json, genes: pd.DataFrame) -> str:
    methods = list(about["methods"])
    rows = []
    for name, of_type in genes.groupby("cell_type", sort=False):
        best = []
        for method in methods:
            ranked = of_type[of_type[f"{method}_rank"].between(1, 8)]
            best.append(" ".join(ranked.sort_values(f"{method}_rank").gene))
        rows.append((plain(name), str(about["cells"][name]), *best))
    return table(("cell type", "cells", *(about["methods"][m]["title"] for m in methods)), rows)


def _found(about: Json) -> str:
    if not about["markers_found"]:
        return "No list of markers was given."
    rows = [
        (
            about["methods"][one["method"]]["title"],
            f"{one['own']} of {one['named']}",
            f"{one['any']} of {one['types']}",
        )
        for one in about["markers_found"]
    ]
    header = ("genes ranked by", "types whose own markers are found", "types with any type's")
    limit = 1 - about["settings"]["confidence_level"]
    return (
        f"{table(header, rows)}\n\nFound: more of a list among the top "
        f"{about['settings']['top_genes']} genes than by chance, adjusted p up to {limit:.2g}. A "
        "type's own list is that of its name or, if that is not there, of the last words of its "
        "name (CD8 T: T cells). Of lists by another name only the best is shown."
    )


def _markers(markers: pd.DataFrame) -> str:
    rows = [
        (
            plain(row["cell_type"]),
            row["method"],
            plain(row["gene_set"]),
            row["matched_by"],
            f"{row['overlap']} of {row['set_genes']}",
            f"{row['adjusted_p']:.1e}",
            row["genes"],
        )
        for row in markers.to_dict("records")
    ]
    header = ("cell type", "method", "compared with", "by", "overlap", "adjusted p", "genes")
    return table(header, rows) if rows else ""
