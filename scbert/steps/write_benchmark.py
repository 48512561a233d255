"""Rule write_benchmark: scores of all datasets and seeds -> one table, and one page."""

import logging
from collections.abc import Sequence
from pathlib import Path

from scbert.benchmark.against import compare_with
from scbert.benchmark.page import About, benchmark_page
from scbert.benchmark.results import Results
from scbert.benchmark.summary import as_json, as_text, means_over_seeds, read_rooms
from scbert.config import Evaluate, load_config, load_datasets, load_methods
from scbert.files import read_json, write_json, write_text
from scbert.provenance import provenance
from scbert.tables import write_table

log = logging.getLogger("scbert")


def write_benchmark(
    scores: Sequence[Path],
    qualities: Sequence[Path],
    mixing: Sequence[Path],
    *,
    methods: Path,
    datasets: Path,
    published: Path,
    chosen: list[str],
    against: str,
    config: Path,
    command: str,
    table: Path,
    data: Path,
    page: Path,
    settings: Evaluate,
) -> None:
    """Put all scores into one table, and write the page that shows them.

    Parameters
    ----------
    scores
        Files DATASET/seedS/scores.tsv of rule score_benchmark; what else it wrote, the tasks, the
        answers and the runs are read from their folders.
    qualities
        JSON files of rule read_counts, one for each file of cells.
    mixing
        Tables of rule measure_batch_mixing, if it was asked for.
    methods
        The table of methods.
    datasets
        The table of datasets: licences, and where labels come from.
    published
        A table of scores of others, see `published_table`.
    chosen
        Those that were run; the first is compared with the others.
    against
        The folder benchmark_crate of an earlier run, to be compared with; empty: none.
    config
        The resolved configuration as JSON.
    command
        What runs the benchmark again.
    table, data
        The long table, as TSV and as JSON of config/benchmark.schema.json; JSON holds means too.
    page
        The HTML file to write.
    """
    folders = [file.parent for file in scores]
    known = load_methods(methods)
    found = Results(
        rooms=read_rooms(folders),
        methods={name: known[name] for name in chosen},
        confidence_level=settings.confidence_level,
    )
    write_table(table, as_text(found.long))
    means = means_over_seeds(found.long, settings.confidence_level)
    write_json(data, as_json(found.long, means, settings.confidence_level))
    about = About(
        command,
        load_config(read_json(config)).benchmark,
        provenance(),
        load_datasets(datasets),
        published,
        mixing,
    )
    earlier = compare_with(Path(against), found, folders) if against else None
    text = benchmark_page(found, folders, [read_json(file) for file in qualities], about, earlier)
    write_text(page, text)
    log.info("%s: %d scores, %.1f MB.", page, len(found.long), page.stat().st_size / 1e6)
