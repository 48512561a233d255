"""Summary of an annotated file, in numbers: the JSON that summarize_query writes."""

from dataclasses import dataclass

from scbert.evidence.record import Record


@dataclass(frozen=True)
class FoundType:
    """Cells of one label: confidence is the median, low_confidence the lowest tenth's upper end."""

    label: str
    ontology_term_id: str
    cells: int
    confidence: float
    low_confidence: float
    unknown: int  # of these cells


@dataclass(frozen=True)
class QuerySummary(Record):
    """Content of the file; the types are those that were found, the most frequent first."""

    query: str  # its name in the table of queries
    source: str
    model: str
    annotated: str  # the file of the result
    cells: int
    confidence: float  # median
    unknown: int  # cells
    types: list[FoundType]
    types_known: int  # by the model
    drawn: int  # cells in the figure
    vectors_are: str  # what the figure is made of
    warnings: dict[str, str]  # by code
    matrix: str
    matrix_chosen: str  # why
    scale: str
    model_sha256: str
