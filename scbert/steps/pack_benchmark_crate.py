"""Rule pack_benchmark_crate: a finished benchmark -> a folder that says how it was made."""

from datetime import UTC, datetime
from pathlib import Path

from scbert.benchmark.against import LABELS, all_labels
from scbert.benchmark.crate import BenchmarkRun, Source, write_crate
from scbert.files import publish, read_json
from scbert.provenance import provenance

DESCRIPTION = "Methods that name cell types, by several protocols on several datasets."


def pack_benchmark_crate(
    results: list[Path],
    scores: list[Path],
    qualities: list[Path],
    *,
    methods: list[str],
    config: Path,
    workflow: Path,
    workflow_files: list[Path],
    snakemake: str,
    crate: Path,
) -> None:
    """Copy results and workflow into a Workflow Run RO-Crate; see `write_crate`.

    Parameters
    ----------
    results
        Pages and tables.
    scores
        Files DATASET/seedS/scores.tsv: the answers beside them become one table of labels.
    qualities
        The quality of each dataset, as rule read_counts wrote it.
    methods
        Those that were run.
    config
        The resolved configuration.
    workflow, workflow_files
        The folder of the repository, and files of it beside the Snakefile.
    snakemake
        Its version.
    """
    run = _run(qualities, config, snakemake, max(file.stat().st_mtime for file in results))
    with publish(crate) as unfinished:
        labels = unfinished.with_name(LABELS)
        all_labels([file.parent for file in scores], methods).to_csv(
            labels, sep="\t", index=False, compression={"method": "gzip", "mtime": 0}
        )
        write_crate(
            unfinished,
            run,
            workflow=workflow,
            workflow_files=workflow_files,
            results={file.name: file for file in [*results, labels]},
        )


def _run(qualities: list[Path], config: Path, snakemake: str, ended: float) -> BenchmarkRun:
    """Return what a crate tells of a run; `ended` is in seconds since 1970."""
    ran, described = provenance(), [(file.stem, read_json(file)) for file in qualities]
    return BenchmarkRun(
        title="A benchmark of cell-type annotation",
        description=DESCRIPTION,
        ended=datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds"),
        commit=ran["commit"] or "",
        snakemake=snakemake,
        packages=ran["packages"],
        config=config,
        sources=[Source(name, one["source"], one["sha256"]) for name, one in described],
    )
