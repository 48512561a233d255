"""A run of the benchmark as a Workflow Run RO-Crate: what went in, what ran, what came out.

Profile: https://w3id.org/ro/wfrun/workflow/0.5. A crate is a folder with copies of the results and
of the workflow's own files, and ro-crate-metadata.json, which describes them for programs; source
data are named with their SHA-256 and not copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rocrate.model.contextentity import ContextEntity
from rocrate.model.data_entity import DataEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
FORMATS = {
    **{".html": "text/html", ".json": "application/json", ".tsv": "text/tab-separated-values"},
    **{".gz": "application/gzip", ".yaml": "application/yaml", ".py": "text/x-python"},
    **{"": "text/plain", ".smk": "text/plain"},
}
LICENSE = "https://spdx.org/licenses/MIT"
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}  # RO-Crate 1.1 has no such word


@dataclass(frozen=True)
class Source:
    """A file of cells that went in; `location` is its path or address."""

    name: str
    location: str
    sha256: str


@dataclass(frozen=True)
class BenchmarkRun:
    """What a crate tells of a run.

    `ended` is a time as ISO 8601 writes it; `commit` that of the workflow, empty outside git;
    `packages` versions by name; `config` the resolved configuration, as JSON.
    """

    title: str
    description: str
    ended: str
    commit: str
    snakemake: str
    packages: Mapping[str, str]
    config: Path
    sources: Sequence[Source]


def write_crate(
    folder: Path,
    run: BenchmarkRun,
    *,
    workflow: Path,
    workflow_files: Sequence[Path],
    results: Mapping[str, Path],
) -> None:
    """Write a crate into a new folder.

    Parameters
    ----------
    workflow
        The folder of the repository; its Snakefile is the main entity.
    workflow_files
        Further files of it, all below `workflow`.
    results
        Title -> file.
    """
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms |= TERMS
    crate.name, crate.description = run.title, run.description
    crate.datePublished = run.ended
    crate.root_dataset["license"] = {"@id": LICENSE}
    crate.root_dataset["conformsTo"] = [_profile(crate, address) for address in PROFILES]
    main = _add_workflow(crate, workflow, run)
    for file in workflow_files:
        place = Path("workflow") / file.relative_to(workflow)
        crate.add_file(file, dest_path=str(place), properties=_about(file, place.name))
    given = crate.add_file(
        run.config, dest_path="config.json", properties=_about(run.config, "Configuration")
    )
    objects: list[Entity] = [given, *(_add_source(crate, source) for source in run.sources)]
    made = [
        crate.add_file(file, dest_path=file.name, properties=_about(file, title))
        for title, file in results.items()
    ]
    _add_action(crate, run, main, objects, made)
    crate.write(folder)


def _profile(crate: ROCrate, address: str) -> Entity:
    properties = {
        "@type": "CreativeWork",
        "name": PROFILES[address],
        "version": address.rpartition("/")[2],
    }
    return crate.add(ContextEntity(crate, address, properties=properties))


def _add_workflow(crate: ROCrate, workflow: Path, run: BenchmarkRun) -> Entity:
    language = crate.add(
        ContextEntity(
            crate,
            LANGUAGE,
            properties={
                "@type": "ComputerLanguage",
                "name": "Snakemake",
                "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
                "url": {"@id": "https://snakemake.readthedocs.io"},
                "version": run.snakemake,
            },
        )
    )
    main = crate.add_workflow(workflow / "Snakefile", "workflow/Snakefile", main=True)
    main["name"], main["programmingLanguage"] = "scBERT end to end", language
    main["license"], main["encodingFormat"] = {"@id": LICENSE}, FORMATS[""]
    if run.commit:
        main["version"] = run.commit
    return main


def _add_source(crate: ROCrate, source: Source) -> Entity:
    """Describe a file that is not in the crate: it is known by its hash."""
    properties = {
        "@type": "File",
        "name": source.name,
        "description": f"Labelled cells, read from {source.location}",
        "sha256": source.sha256,
    }
    known = DataEntity(crate, f"urn:sha256:{source.sha256}#{source.name}", properties=properties)
    return crate.add(known)


def _add_action(
    crate: ROCrate, run: BenchmarkRun, main: Entity, objects: list[Entity], made: list[Entity]
) -> None:
    software = [
        crate.add(
            ContextEntity(
                crate,
                f"https://pypi.org/project/{name}/{version}/",
                properties={
                    "@type": "SoftwareApplication",
                    "name": name,
                    "version": version,
                    "url": f"https://pypi.org/project/{name}/{version}/",
                },
            )
        )
        for name, version in run.packages.items()
    ]
    action = crate.add(
        ContextEntity(
            crate,
            "#run",
            properties={
                "@type": "CreateAction",
                "name": "snakemake benchmark",
                "description": run.description,
                "endTime": run.ended,
                "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
            },
        )
    )
    action["instrument"], action["object"], action["result"] = main, objects, made
    main["softwareRequirements"] = software
    crate.root_dataset["mentions"] = [action]


def _about(file: Path, title: str) -> dict[str, str]:
    return {"name": title, "encodingFormat": FORMATS[file.suffix]}
