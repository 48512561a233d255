"""From one dataset to another: the types that only the second has, which no method can name."""

from scbert.benchmark.results import Results
from scbert.config.benchmark import TRANSFERRED


def judge_transfers(results: Results) -> list[str]:
    """Say of each pair of datasets which types only the query has; none without transfers."""
    tasks = results.rooms.tasks
    tasks = tasks[(tasks["protocol"] == TRANSFERRED) & (tasks["task"] != "")]
    strange = tasks.drop_duplicates("dataset").set_index("dataset")["query_only_types"]
    return [_said(str(dataset), types) for dataset, types in strange.items()]


def _said(dataset: str, types: str) -> str:
    pair = dataset.replace("_", " ")
    if not types:
        return f"{pair}: all types of the query are learned."
    return (
        f"{pair}: types that only the query has: {types}. No method can name them: their cells "
        "are in no score but novelty."
    )
