"""The benchmark: which methods meet which datasets, by which protocols."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, field_validator

from scbert.config.base import Count, Fraction, Name, Section, Seed

Protocol = Literal[
    "within_dataset",
    "across_batches",
    "few_labels",
    "class_imbalance",
    "new_type",
    "label_noise",
]
TRANSFERRED = "across_datasets"  # the protocol of Benchmark.transfers
Transfer = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+>[A-Za-z0-9_-]+$")]


class Protocols(Section):
    """How the cells of a dataset become tasks, see `benchmark.protocols`."""

    used: tuple[Protocol, ...]
    folds: int = Field(ge=2)  # of within_dataset; of across_batches at most so many
    min_cells_per_type: Count  # a type of fewer cells is left out: five folds would share them
    min_query_cells: Count  # a fold of fewer is not asked: its scores would be noise
    cells_per_type: tuple[Count, ...]  # to learn from, of few_labels
    shares_of_cells: tuple[Fraction, ...]  # to learn from, of few_labels
    imbalance: tuple[
        Annotated[int, Field(ge=2)], ...
    ]  # times that common types outnumber rare ones
    new_types: Count  # the largest types that are left out of training in turn
    noise: tuple[Fraction, ...]  # share of the cells to learn from that get another type


class Benchmark(Section):
    """`snakemake benchmark`: datasets x methods x protocols x folds x seeds."""

    datasets: tuple[Name, ...]  # of the table of datasets; empty: all
    transfers: tuple[
        Transfer, ...
    ]  # TRAIN>QUERY: learn from one dataset, name the cells of another
    methods: str  # table, see class Method
    chosen: tuple[Name, ...]  # of that table; empty: all but the optional ones
    seeds: tuple[Seed, ...] = Field(min_length=1)
    protocols: Protocols
    python: dict[Name, str]  # a method -> the Python of its environment, where conda is not used
    minutes: float = Field(gt=0)  # that a method may take for one task; then it has failed
    batch_mixing: bool  # of vectors of cells, by scib-metrics, which the package does not need
    against: str  # folder benchmark_crate of an earlier run, shown beside this one; empty: none


class Method(Section):
    """A line of the table of methods."""

    method: Name
    title: str = Field(min_length=1)  # for the page
    kind: Literal["scbert", "peer", "baseline", "control"]
    folder: str = Field(min_length=1)  # with predict.py and environment.yaml
    options: str  # further words for the command line of predict.py
    optional: Literal["yes", "no"]  # yes: run only where the configuration names it
    protocols: str  # that it is asked by, separated by commas; empty: all
    setting: str  # how it is set, and where that comes from, for the page

    @field_validator("protocols")
    @classmethod
    def _are_known(cls, protocols: str) -> str:
        known = (*get_args(Protocol), TRANSFERRED)
        for name in _listed(protocols):
            if name not in known:
                raise ValueError(f"'{name}' is no protocol. Known are: {', '.join(known)}")
        return protocols

    def is_asked(self, protocol: str) -> bool:
        """Whether the method is run on the tasks of a protocol."""
        return not self.protocols or protocol in _listed(self.protocols)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def chosen_methods(methods: dict[str, Method], settings: Benchmark) -> dict[str, Method]:
    """Return the methods that are to be run, in the order that was asked for.

    Raises
    ------
    ValueError
        If one is not in the table.
    """
    chosen = settings.chosen or [name for name, one in methods.items() if one.optional == "no"]
    for name in chosen:
        if name not in methods:
            raise ValueError(
                f"benchmark.chosen names the method '{name}', but {settings.methods} lists "
                f"{', '.join(methods)}."
            )
    return {name: methods[name] for name in chosen}


def require_programs(folders: Mapping[str, str]) -> None:
    """Refuse a method, given with its folder, that lacks its program or its environment.

    Raises
    ------
    ValueError
        Naming the method and the file.
    """
    for method, folder in folders.items():
        for name in ("predict.py", "environment.yaml"):
            if not Path(folder, name).is_file():
                raise ValueError(
                    f"method '{method}' has the folder {folder}, but {name} is not in it. Correct "
                    "the column folder of the table of methods, or copy scripts/methods/template."
                )


def name_of_pair(pair: str) -> str:
    """Return the name, also of a folder, of a pair TRAIN>QUERY."""
    return pair.replace(">", "_to_")


def benchmark_sets(settings: Benchmark, datasets: Iterable[str]) -> dict[str, list[str]]:
    """Return the datasets of which tasks are made, by name: one line of the table, or two.

    Raises
    ------
    ValueError
        If one is not in the table.
    """
    known = list(datasets)
    sets = {name: [name] for name in settings.datasets or known}
    sets |= {name_of_pair(pair): pair.split(">") for pair in settings.transfers}
    for name in {name for names in sets.values() for name in names} - set(known):
        raise ValueError(
            f"benchmark.datasets or benchmark.transfers names '{name}', but the table of datasets "
            f"lists {', '.join(known)}."
        )
    return sets
