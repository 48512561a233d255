"""Rule make_benchmark_tasks: counts with labels -> which cells are learned from and asked about."""

import logging
from pathlib import Path

import numpy as np

from scbert.benchmark.protocols import (
    BenchmarkTask,
    LabelledSet,
    Skipped,
    frequent,
    make_tasks,
    transfer,
)
from scbert.benchmark.shared_cells import shared_cells
from scbert.benchmark.task_files import labelled_set, write_tasks
from scbert.config import Protocols

log = logging.getLogger(__name__)


def make_benchmark_tasks(counts: list[Path], tasks: Path, seed: int, settings: Protocols) -> None:
    """Divide the cells of a dataset by each protocol, and write the tasks to a folder.

    Parameters
    ----------
    counts
        One dataset; or two, of which the first is learned from and the second asked about. Cells
        that both have are not learned from.

    Raises
    ------
    ValueError
        If no protocol can be used for these cells.
    """
    sets = [labelled_set(file) for file in counts]
    first, found = sets[0], list[BenchmarkTask | Skipped]()
    if len(sets) > 1:
        both = shared_cells(*counts)
        log.info("%d cells are in both files: they are not learned from", len(both))
        found += [transfer(first, sets[1], settings, both.tolist())]
    else:
        found += make_tasks(first, settings, seed)
    skipped = [one for one in found if isinstance(one, Skipped)]
    for one in skipped:
        log.warning("%s, %s is left out: %s", one.protocol, one.level, one.reason)
    if len(skipped) == len(found):
        raise ValueError(
            f"{', '.join(map(str, counts))}: no protocol of {', '.join(settings.used)} can be "
            f"used ({skipped[0].reason if skipped else 'none is for one dataset'}). Give other "
            "protocols (benchmark.protocols.used) or take the dataset out of its table."
        )
    few = len(first) - len(frequent(first, settings))
    if few:
        log.warning(
            "%d cells are left out: their types have fewer than %d cells "
            "(benchmark.protocols.min_cells_per_type)",
            *(few, settings.min_cells_per_type),
        )
    write_tasks(tasks, found, _together(sets))
    log.info("%d tasks of %d cells", len(found) - len(skipped), sum(map(len, sets)))


def _together(sets: list[LabelledSet]) -> LabelledSet:
    parts = [(one.cells, one.cell_types, one.batches) for one in sets]
    return LabelledSet(*(np.concatenate(column) for column in zip(*parts, strict=True)))
