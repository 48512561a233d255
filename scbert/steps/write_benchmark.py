"""Rule write_benchmark: scores of all datasets and seeds -> one table, and one page."""

import logging
from collections.abc import Sequence
from pathlib import Path

from scbert.benchmark.against import compare_with
from scbert.benchmark.page import About, benchmark_page
from scbert.benchmark.results import Results
from scbert.benchmark.summary import (
    BenchmarkData,
    as_json,
    as_text,
    means_over_seeds,
    read_rooms,
)
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
    versions: Path,
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
        Files DATASET/seedS/scores.tsv; what else their folders hold is read, too.
    qualities, mixing
        JSON files of rule read_counts, and tables of rule measure_batch_mixing, if there are any.
    methods, datasets, published, versions
        The tables of methods and datasets, of scores of others and of known files.
    chosen
        The methods that were run; the first is compared with the others.
    against
        The folder benchmark_crate of an earlier run, to be compared with; empty: none.
    config, command
        The resolved configuration as JSON, and what runs the benchmark again.
    table, data, page
        To be written: the long table as TSV, the same with means as JSON of
        config/benchmark.schema.json, and the HTML file.
    """
    folders = [file.parent for file in scores]
    known = load_methods(methods)
    ran = {name: known[name] for name in chosen}
    found = Results(read_rooms(folders), ran, settings.confidence_level)
    write_table(table, as_text(found.long))
    write_json(data, _as_json(found))
    tables = (load_datasets(datasets), published, versions, mixing)
    about = About(command, load_config(read_json(config)).benchmark, provenance(), *tables)
    earlier = compare_with(Path(against), found, folders) if against else None
    text = benchmark_page(found, folders, [read_json(file) for file in qualities], about, earlier)
    write_text(page, text)
    log.info("%s: %d scores, %.1f MB.", page, len(found.long), page.stat().st_size / 1e6)


def _as_json(found: Results) -> BenchmarkData:
    means = means_over_seeds(found.long, found.confidence_level)
    return as_json(found.long, means, found.confidence_level)
