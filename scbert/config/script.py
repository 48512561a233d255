"""Command line of a script: settings as JSON, and an option for each parameter of its step."""

import argparse
import inspect
import json
from collections import abc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from scbert.config.base import Name, Section, Seed, Sequence
from scbert.config.cells import Binning, Counts, Normalization
from scbert.config.inputs import Dataset, Download, HowCellsAreRead, PanglaoDB, Sha256
from scbert.config.load import Config
from scbert.config.training import Annotate, Compare, Evaluate, Finetune, Network, Pretrain
from scbert.logs import end_when_told, explain_user_errors, start_logging
from scbert.written import recorded

PLAIN = (Path, str, int, float)
LISTS = (list, tuple, abc.Sequence)
Settings = TypeVar("Settings", bound=Section)


class PretrainSettings(Section):
    """What the pretraining step must know."""

    sequence: Sequence
    normalization: Normalization  # of the tokens; kept in the bundle, for `scbert embed`
    binning: Binning
    network: Network
    pretrain: Pretrain


class ReadSettings(Section):
    """What the reading step must know."""

    sample: str
    source: str  # where the file comes from, for the report
    counts: Counts
    normalization: Normalization
    matrix: str  # auto, X, raw.X or layers/NAME
    scale: Literal["auto", "counts", "expected_counts", "log1p"]  # what the matrix must hold
    dataset: Dataset | None  # None: unlabelled cells of the corpus
    leave_out: bool  # unusable content: write no cells and the reason (PanglaoDB); else an error


class SourceSettings(Section):
    """What the fetching step must know."""

    source: str  # package:NAME/FILE, or http(s)://
    sha256: Sha256  # of the file at that address; empty: not known beforehand
    download: Download


class PanglaoDBSettings(Section):
    """What the downloads of PanglaoDB's tables must know."""

    panglaodb: PanglaoDB
    download: Download


class SampleSettings(PanglaoDBSettings):
    """What the downloads of a PanglaoDB sample must know."""

    sample: Name  # SRA_SRS, or SRA_notused


class FinetuneSettings(Section):
    """What the fine-tuning step must know."""

    seed: Seed
    normalization: Normalization
    finetune: Finetune
    annotate: Annotate


class QuerySettings(HowCellsAreRead):
    """What the steps that annotate a query must know."""


class CompareSettings(Section):
    """What the comparison step must know."""

    evaluate: Evaluate
    compare: Compare


def settings_for(step: type[Settings], config: Config, **more: object) -> Settings:
    """Return the part of the configuration that a step must know, and what is given."""
    shared = {key: getattr(config, key) for key in step.model_fields if key in Config.model_fields}
    return step.model_validate(shared | more)


def run_step(step: Callable[..., object], description: str | None) -> None:
    """Run a step function with what the command line of its script says.

    Logging starts here, and from here on a user's error is shown without a traceback, and SIGTERM
    leaves nothing half-written. Results that were damaged since they were written are refused.

    Parameters
    ----------
    step
        Each parameter becomes an option of the same name. Its type says what the option takes: a
        Path, str or number one word; a Literal one of its words; a list several words or none; a
        bool none (`--test`, `--no-test`); a section of the configuration its values as JSON. What
        has a default may be left out.
    description
        For `--help`: the docstring of the script.
    """
    start_logging()
    explain_user_errors()
    end_when_told()
    given = vars(_parser(step, description).parse_args())
    with recorded(_paths(given.values())):
        step(**given)


def _paths(values: Iterable[object]) -> Iterator[Path]:
    for value in values:
        if isinstance(value, Path):
            yield value
        elif isinstance(value, list | tuple):
            yield from _paths(value)


def _parser(step: Callable[..., object], description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    for name, parameter in inspect.signature(step, eval_str=True).parameters.items():
        needed = parameter.default is parameter.empty
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            required=needed,
            default=None if needed else parameter.default,
            **_takes(parameter.annotation),
        )
    return parser


def _takes(kind: Any) -> dict[str, Any]:
    """Return what argparse must know of an option whose values have this type."""
    if get_origin(kind) in LISTS:
        return {"nargs": "*", **_takes(get_args(kind)[0])}
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if inspect.isclass(kind) and issubclass(kind, Section):
        return {"type": _reads(kind), "metavar": "JSON"}
    assert kind in PLAIN, f"{kind} in the signature of a step: no option is known for it"
    return {"type": kind}


def _reads(section: type[Section]) -> Callable[[str], Section]:
    """Return what makes a section of its JSON text, and says of an invalid value which it is."""

    def read(text: str) -> Section:
        try:
            return section.model_validate(json.loads(text))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"not valid: {error}") from error

    return read
