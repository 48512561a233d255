"""An explanation, and its files: tables, figures, explanation.json and a page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scbert.config import Explain
from scbert.evidence.explained import Explained, ExplainedMethod, MarkersFound, Missed
from scbert.explain.deletion import ALL, sentence, verdicts
from scbert.explain.enrichment import (
    MarkersAndSets,
    count_found,
    enrichment_of_types,
    markers_of_types,
)
from scbert.explain.explanation_page import draw_deletion, draw_heat_map, write_page
from scbert.explain.rankings import TITLES, Ranking, table_of_genes
from scbert.files import publish
from scbert.provenance import provenance
from scbert.tables import write_table
from scbert.training.saved_model import FinetunedModel

log = logging.getLogger(__name__)
HEAT_MAP_GENES = 4  # of each type
BEST_SETS = 10  # of each type and method, in gene_sets.tsv
SOURCES = {
    "gradients": "Sundararajan et al. 2017, of the label's logit, from the mask; by z-score",
    "gradients_mean": "the same, by the mean of the type's cells: what the gene adds to the logit",
    "attention": "Yang et al. 2022: column sums, where the gene is a token; by z-score",
    "expression": "mean bin of the type less the mean of the other types",
    "logistic_regression": "fitted on the same training cells and bins; by weight",
}


@dataclass(frozen=True)
class Explanation:
    """Rankings of the genes of each type, and the verdict on each.

    `missed` has shape (cells,): see `gradients_of_cells`.
    """

    name: str
    labels_from: str
    model: FinetunedModel
    types: list[str]
    cells: list[int]
    rankings: list[Ranking]
    missed: np.ndarray
    judged: pd.DataFrame
    known: MarkersAndSets
    settings: Explain
    notes: list[str]
    warnings: dict[str, str]


def write_explanation(out: Path, found: Explanation) -> Explained:
    """Write the folder and return what stands in explanation.json."""
    symbols = found.model.genes.symbol.to_numpy()
    limit = 1 - found.settings.confidence_level
    markers = markers_of_types(
        _enriched(found, found.known.markers, symbols), found.known.marker_types, limit
    )
    explained = _explained(found, markers, limit)
    sets = _enriched(found, found.known.gene_sets, symbols)
    by = ["method", "cell_type"]
    tables = {
        "genes": table_of_genes(found.rankings, found.types, symbols),
        "markers": markers,
        "gene_sets": sets.sort_values("p", kind="stable").groupby(by).head(BEST_SETS),
        "deletion": found.judged,
    }
    with publish(out) as unfinished:
        unfinished.mkdir()
        for name, table in tables.items():
            write_table(unfinished / f"{name}.tsv", _short(table))
        for name, text in _figures(found, explained, symbols).items():
            (unfinished / f"{name}.svg").write_text(text)
        explained.write(unfinished / "explanation.json")
        page = write_page(explained, tables["genes"], tables["markers"])
        (unfinished / "README.md").write_text(page)
    for line in explained.verdicts:
        log.info("%s", line)
    return explained


def _explained(found: Explanation, markers: pd.DataFrame, limit: float) -> Explained:
    """Say what was found; `limit` is that of the adjusted p of markers."""
    level, judged = found.settings.confidence_level, verdicts(found.judged)
    counted: list[MarkersFound] = []
    if found.known.markers:
        rows = count_found(markers, len(found.types), limit).to_dict("records")
        counted = [MarkersFound(**{str(key): value for key, value in row.items()}) for row in rows]
    return Explained(
        name=found.name,
        labels_from=found.labels_from,
        model_sha256=found.model.sha256,
        cells=dict(zip(found.types, found.cells, strict=True)),
        methods={
            method: ExplainedMethod(TITLES[method], SOURCES[method], one)
            for method, one in judged.items()
        },
        verdicts=[sentence(one, TITLES[method], level) for method, one in judged.items()],
        gradients_missed=Missed(float(np.median(found.missed)), float(found.missed.max())),
        markers=len(found.known.markers),
        markers_found=counted,
        marker_types=found.known.marker_types,
        gene_sets=len(found.known.gene_sets),
        notes=[*found.warnings.values(), *found.notes, *_notes(found)],
        warnings=found.warnings,
        settings=found.settings.model_dump(mode="json"),
        provenance=dict(provenance()),
    )


def _notes(found: Explanation) -> list[str]:
    """Say what must be known to read the tables."""
    small = found.judged[(found.judged.cell_type == ALL) & (found.judged.genes != "mean")]
    tested = small.groupby("genes").cells.max()
    return [
        "A faithful ranking says which genes this model uses; these need not be the genes that "
        "define the cell type.",
        f"A gene is ranked in a type if {found.settings.min_expressed:.0%} of the type's cells "
        "here express it in bin 1 or higher; these genes are also what overlaps are counted among.",
        f"Integrated gradients of a cell miss the difference that they should add up to by "
        f"{np.median(found.missed):.1%} (median), with {found.settings.steps} steps.",
        "Cells that were large enough for each number of removed genes: "
        + ", ".join(f"{k}: {tested[k]}" for k in sorted(tested.index, key=int))
        + ".",
    ]


def _enriched(
    found: Explanation, sets: Mapping[str, Sequence[str]], symbols: np.ndarray
) -> pd.DataFrame:
    n_top = found.settings.top_genes
    tables = [
        enrichment_of_types(one, found.types, symbols, sets, n_top=n_top) for one in found.rankings
    ]
    return pd.concat(tables, ignore_index=True)


def _figures(found: Explanation, explained: Explained, symbols: np.ndarray) -> dict[str, str]:
    drawn = {}
    for name, method in (("heatmap", "gradients_mean"), ("attention", "attention")):
        ranking = next(one for one in found.rankings if one.method == method)
        verdict = explained.methods[method].deletion.verdict
        title = f"{TITLES[method].capitalize()} ({verdict} the deletion test)"
        drawn[name] = draw_heat_map(
            ranking, found.types, symbols, n_genes=HEAT_MAP_GENES, title=title
        )
    titles = {method: title.split(" (")[0] for method, title in TITLES.items()}
    drawn["deletion"] = draw_deletion(found.judged, titles, found.settings.confidence_level)
    return drawn


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Write numbers with five digits: more would only make the files heavy."""
    numbers = [name for name in table.columns if table[name].dtype.kind == "f"]
    return table.assign(**{name: table[name].map("{:.5g}".format) for name in numbers})
