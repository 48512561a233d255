"""Number of genes that a file and the vocabulary share: the JSON beside its expression."""

from typing import TypedDict


class MatchSummary(TypedDict):
    """How many genes of a file the vocabulary knows, and by which of their names."""

    genes_in_file: int
    matched: int
    matched_by_id: int
    matched_by_symbol: int
    matched_by_alias: int
    unmatched: int
    unmatched_examples: list[str]
    ambiguous: int  # see `matching.GeneMatch`, as for the two below
    ambiguous_examples: list[str]
    with_id_and_symbol: int
    contradicting: int
    contradicting_examples: list[str]
    vocabulary: int
    missing: int  # genes of the vocabulary that the file lacks
    share_of_vocabulary: float


class Overlap(MatchSummary):
    """Content of the JSON file beside the expression of a sample or dataset."""

    sample: str
    cells: int
    share_of_counts: float | None  # of the cells' counts, on known genes; None without counts
