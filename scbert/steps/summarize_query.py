"""Rule summarize_query: an annotated file -> what was found, in numbers, and a figure."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem

from scbert.cells.h5ad import read_columns
from scbert.evidence.plane import plane_coordinates
from scbert.evidence.query_summary import FoundType, QuerySummary
from scbert.files import write_text
from scbert.report.queries import NamedCell, draw_named_cells

MOST_DRAWN = 3000  # cells: UMAP takes ten seconds for them
SEED = 0  # of UMAP
LOW = 0.1  # quantile of the confidence
COLUMNS = {
    "label": "scbert_label",
    "ontology_term_id": "scbert_label_ontology_term_id",
    "confidence": "scbert_confidence",
    "is_unknown": "scbert_is_unknown",
}
VECTORS = {"encoder": "the encoder's cell vectors"}
COMPONENTS = "their place among the principal components of the training cells"


def summarize_query(
    annotated: Path, query: str, source: str, model: str, summary: Path, figure: Path
) -> None:
    """Count what was found; of the matrix nothing is read.

    Parameters
    ----------
    query, source, model
        The line of the table of queries: its name, and where the cells and the model are.
    summary
        The JSON file to write.
    figure
        The SVG file to write.
    """
    with h5py.File(annotated) as file:
        cells = read_columns(file, [*COLUMNS.values()], str(annotated))
        about = read_elem(file["uns/scbert"])
        rows = np.unique(np.linspace(0, len(cells) - 1, MOST_DRAWN).astype(int))
        vectors = file["obsm/X_scbert"][rows]
    cells = cells.rename(columns={column: name for name, column in COLUMNS.items()})
    types = types_of(cells)
    text = draw_named_cells(_places(cells.iloc[rows], vectors), [one.label for one in types])
    write_text(figure, text)
    QuerySummary(
        query=query,
        source=source,
        model=model,
        annotated=str(annotated),
        cells=len(cells),
        confidence=float(cells.confidence.median()),
        unknown=int(cells.is_unknown.sum()),
        types=types,
        types_known=len(about["labels"]),
        drawn=len(rows),
        vectors_are=VECTORS.get(about["vectors"], COMPONENTS),
        warnings=dict(about["warnings"]),
        **{key: str(about[key]) for key in ("matrix", "matrix_chosen", "scale", "model_sha256")},
    ).write(summary)


def types_of(cells: pd.DataFrame) -> list[FoundType]:
    """Return each type that was found, with numbers, the most frequent first."""
    found = [
        FoundType(
            label=str(label),
            ontology_term_id=str(of.ontology_term_id.iloc[0]),
            cells=len(of),
            confidence=float(of.confidence.median()),
            low_confidence=float(of.confidence.quantile(LOW)),
            unknown=int(of.is_unknown.sum()),
        )
        for label, of in cells.groupby("label", observed=True)
    ]
    return sorted(found, key=lambda one: -one.cells)


def _places(cells: pd.DataFrame, vectors: np.ndarray) -> list[NamedCell]:
    places = plane_coordinates(vectors, SEED)
    rows = zip(places.tolist(), cells.label, cells.is_unknown, strict=True)
    return [NamedCell(x, y, str(label), bool(unknown)) for (x, y), label, unknown in rows]
