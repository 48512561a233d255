"""Every section of the configuration, and how files of it are read.

What is wrong with a file is said in plain words.
"""

import csv
import difflib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError, model_validator

from scbert.config.base import DeviceName, Section, Sequence
from scbert.config.benchmark import Benchmark, Method
from scbert.config.cells import (
    Binning,
    Counts,
    Gene2vec,
    Gene2vecQuality,
    Normalization,
    Pairs,
    Split,
    Vocabulary,
)
from scbert.config.inputs import Corpus, CorpusSample, Dataset, Download, PathOfTable, Query
from scbert.config.training import Annotate, Compare, Evaluate, Explain, Finetune, Network, Pretrain

EXAMPLES = {
    "dataset": "config/datasets.tsv",
    "sample": "config/corpus.tsv",
    "method": "config/methods.tsv",
    "query": "config/queries.tsv",
}
PLURALS = {"query": "queries"}
Line = TypeVar("Line", Dataset, CorpusSample, Method, Query)


class Config(Section):
    """Everything that a run can be told."""

    device: DeviceName  # of networks; auto: CUDA if there is one, else cpu
    download: Download
    corpus: Corpus
    datasets: str  # table of labelled datasets, see class Dataset
    queries: str  # table of files to be annotated, see class Query
    checkpoints: PathOfTable  # folder for the state of training, which must outlive a job
    sequence: Sequence  # tokens of a cell
    counts: Counts
    vocabulary: Vocabulary
    normalization: Normalization
    binning: Binning
    pairs: Pairs
    gene2vec: Gene2vec
    gene2vec_quality: Gene2vecQuality
    network: Network
    pretrain: Pretrain
    split: Split
    finetune: Finetune
    annotate: Annotate
    evaluate: Evaluate
    compare: Compare
    explain: Explain
    benchmark: Benchmark

    @model_validator(mode="after")
    def _vectors_fit(self) -> Self:
        if self.gene2vec.dim != self.network.dim:
            raise ValueError(
                f"gene2vec.dim is {self.gene2vec.dim} and network.dim is {self.network.dim}, but "
                "the gene vectors are added to the token vectors: make them equal"
            )
        return self


def default_config_file() -> Path:
    """Return config/config.yaml; an installed package holds a copy, made when it was built."""
    packaged = Path(__file__).with_name("default.yaml")
    return packaged if packaged.exists() else Path(__file__).parents[2] / "config/config.yaml"


def load_config(values: dict[str, object]) -> Config:
    """Check what the YAML files say.

    Raises
    ------
    ValueError
        Naming each wrong key, the value found and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError("configuration: " + describe(error, Config)) from None


def load_datasets(path: Path) -> dict[str, Dataset]:
    """Read the table of datasets (tab-separated), by name and in order.

    Raises
    ------
    ValueError
        If a line is not valid, or is made of datasets that do not stand above it.
    """
    lines = _load_table(path, Dataset, "dataset")
    above: list[str] = []
    for name, line in lines.items():
        for part in line.parts:
            if part not in above:
                raise ValueError(
                    f"{path}: '{name}' is made of '{part}' ({line.file}), but no line above it has "
                    f"that name (above are: {', '.join(above) or 'none'}). Correct the name, or "
                    "move the line down."
                )
        above.append(name)
    return lines


def load_samples(path: Path) -> dict[str, CorpusSample]:
    """Read the table of the corpus (tab-separated), by name and in order."""
    return _load_table(path, CorpusSample, "sample")


def load_methods(path: Path) -> dict[str, Method]:
    """Read the table of methods of the benchmark (tab-separated), by name and in order."""
    return _load_table(path, Method, "method")


def load_queries(path: Path) -> dict[str, Query]:
    """Read the table of queries (tab-separated), by name and in order; it may be empty."""
    return _load_table(path, Query, "query", at_least=0)


def _load_table(path: Path, line_type: type[Line], key: str, at_least: int = 1) -> dict[str, Line]:
    if not path.is_file():
        tables = PLURALS.get(key, f"{key}s")
        raise ValueError(f"{tables}: {path} does not exist. Give a table like {EXAMPLES[key]}.")
    lines: dict[str, Line] = {}
    for number, row in _read_rows(path):
        try:
            line = line_type.model_validate(row)
        except ValidationError as error:
            raise ValueError(f"{path}, line {number}: " + describe(error, line_type)) from None
        name = getattr(line, key)
        if name in lines:
            raise ValueError(f"{path}, line {number}: {key} '{name}' appears twice.")
        lines[name] = line
    if len(lines) < at_least:
        raise ValueError(f"{path} lists no {key}. Add at least one line.")
    return lines


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table, as editors and Excel write it, with their numbers.

    It may begin with a byte-order mark, and spaces, tabs and empty lines may follow what counts.

    Raises
    ------
    ValueError
        If it is no text of UTF-8, or a quotation mark is not closed: it would swallow the lines
        that follow.
    """
    with path.open(newline="", encoding="utf-8-sig") as handle:
        table = csv.reader(handle, delimiter="\t", strict=True)
        try:
            names = [name.strip() for name in next(table, [])]
            for row in table:
                values = [value.strip() for value in row]
                if any(values):
                    pairs = zip_longest(names, values, fillvalue="")
                    yield table.line_num, {name: value for name, value in pairs if name or value}
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path} cannot be read after line {table.line_num} ({error}). A table of tabs in "
                "UTF-8 is needed, with two quotation marks around a value or none: correct or "
                "write it again."
            ) from error


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in plain words what is wrong with each key."""
    return "\n".join(_describe_one(dict(detail), model) for detail in error.errors())


def _describe_one(detail: dict, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        allowed = _keys_beside(detail["loc"], model)
        near = difflib.get_close_matches(str(detail["loc"][-1]), allowed, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{key}'.{hint} Allowed here: {', '.join(allowed)}."
    if detail["type"] == "missing":
        return f"key '{key}' is missing. Add it; config/config.yaml shows an example."
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not key:
        return f"{message}."
    return f"key '{key}' is {detail['input']!r}: {message}."


def _keys_beside(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)
