"""Rule pack_benchmark_crate: a finished benchmark -> a folder that says how it was made."""

from datetime import UTC, datetime
from pathlib import Path

from scbert.benchmark.crate import BenchmarkRun, Source, write_crate
from scbert.files import publish, read_json
from scbert.provenance import provenance

DESCRIPTION = "Methods that name cell types, by several protocols on several datasets."


def pack_benchmark_crate(
    results: list[Path],
    quality: list[Path],
    config: Path,
    workflow: Path,
    workflow_files: list[Path],
    crate: Path,
) -> None:
    """Copy results and workflow into a Workflow Run RO-Crate; see `write_crate`.

    Parameters
    ----------
    results
        Pages and tables.
    quality
        What rule read_counts says of each dataset.
    config
        The resolved configuration.
    workflow, workflow_files
        The folder of the repository, and files of it beside the Snakefile.
    """
    ran = provenance()
    described = [(file.stem, read_json(file)) for file in quality]
    ended = max(file.stat().st_mtime for file in results)
    packages = {name: version for name, version in ran["packages"].items() if name != "snakemake"}
    run = BenchmarkRun(
        title="A benchmark of cell-type annotation",
        description=DESCRIPTION,
        ended=datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds"),
        commit=ran["commit"] or "",
        snakemake=ran["packages"].get("snakemake", "not known"),
        packages=packages,
        config=config,
        sources=[Source(name, one["source"], one["sha256"]) for name, one in described],
    )
    with publish(crate) as unfinished:
        write_crate(
            unfinished,
            run,
            workflow=workflow,
            workflow_files=workflow_files,
            results={file.name: file for file in results},
        )
