"""From one dataset to another: types that only the second has, and cells that both have."""

from scbert.benchmark.results import Results
from scbert.config.benchmark import TRANSFERRED


def judge_transfers(results: Results) -> list[str]:
    """Say of each pair of datasets what the query has alone, and what both have; none without.

    Results of earlier versions do not say which cells were in both.
    """
    tasks = results.rooms.tasks
    tasks = tasks[(tasks["protocol"] == TRANSFERRED) & (tasks["task"] != "")]
    pairs = tasks.drop_duplicates("dataset").reindex(columns=COLUMNS, fill_value="0")
    return [_said(*(str(one) for one in pair)) for pair in pairs.to_numpy()]


COLUMNS = ["dataset", "query_only_types", "left_out"]


def _said(dataset: str, types: str, left_out: str) -> str:
    pair = dataset.replace("_", " ")
    said = f"{pair}: all types of the query are learned."
    if types:
        said = (
            f"{pair}: types that only the query has: {types}. No method can name them: their cells "
            "are in no score but novelty."
        )
    if left_out == "0":
        return said
    return f"{said} {left_out} cells are in both files and were not learned from."
