"""A run of scbert finetune: what it was asked for, and the files in which it lies.

A run that was killed goes on where it stopped, if it is asked for the same again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scbert import __version__
from scbert.config import Config, Dataset
from scbert.files import JsonObject, read_json, sha256_of
from scbert.training.bundle_files import MANIFEST

OPTIONS = {  # of scbert finetune, by what they set in the identity of a run
    "version": "version of scBERT",
    "reference": "content of REFERENCE",
    "pretrained": "--pretrained",
    "dataset.file": "name of REFERENCE",
    "dataset.matrix": "--matrix",
    "dataset.scale": "--scale",
    "dataset.label_key": "--label-key",
    "dataset.batch_key": "--batch-key",
    "dataset.library_size_key": "--library-size-key",
    "config.finetune.seeds": "--seed",
    "test part": "choice of --no-test",
    "new genes": "choice of --add-genes",
    "ontology": "--ontology",
}
EXTENDED = "encoder"  # folder of the pretrained model with the genes that only the reference has


@dataclass(frozen=True)
class Given:
    """What is learned from: a labelled file, a pretrained model, at most one table of types."""

    reference: Path
    pretrained: Path
    ontology: list[Path]


@dataclass(frozen=True)
class FinetuneRun:
    """What is learned, from what, and where; `out` is the folder of the new model.

    `dataset` says how the labelled file is read. `test`: whether cells are held out; `add_genes`:
    whether the encoder is to know the genes that only the reference has.
    """

    out: Path
    given: Given
    dataset: Dataset
    config: Config
    test: bool
    add_genes: bool

    @property
    def seed(self) -> int:
        """The random seed of training."""
        return self.config.finetune.seeds[0]

    @property
    def folder(self) -> Path:
        """All that is not complete."""
        return self.out.with_name(f".{self.out.name}.work")

    @property
    def data(self) -> Path:
        """Counts, split, expression and tokens; it is there when these are complete."""
        return self.folder / "data"

    @property
    def split(self) -> Path:
        """The parts."""
        return self.data / f"{self.dataset.dataset}.tsv"

    @property
    def expression(self) -> Path:
        """The expression of the encoder's genes."""
        return self.data / f"{self.dataset.dataset}.h5ad"

    @property
    def tokens(self) -> Path:
        """The token store; the model records its name."""
        return self.data / "tokens" / self.dataset.dataset

    @property
    def encoder(self) -> Path:
        """The pretrained model that learns from the reference."""
        return self.data / EXTENDED if self.add_genes else self.given.pretrained

    @property
    def predictions(self) -> Path:
        """The model's predictions for the test cells."""
        return self.folder / f"seed{self.seed}.h5ad"

    @property
    def model(self) -> Path:
        """The model, complete but for its card, under the name that it will have."""
        return self.folder / "model" / self.out.name

    @property
    def comparison(self) -> Path:
        """The scores."""
        return self.model / "comparison.json"

    def identity(self) -> JsonObject:
        """Return what must be the same where a run that was stopped goes on; it may change device.

        A reference that is not there has no hash: who reads it says so.
        """
        return {
            "version": __version__,
            "reference": sha256_of(self.given.reference) if self.given.reference.exists() else "",
            "pretrained": sha256_of(self.given.pretrained / MANIFEST),
            "dataset": self.dataset.model_dump(),
            "config": self.config.model_dump(mode="json", exclude={"device"}),
            "test part": self.test,
            "new genes": self.add_genes,
            "ontology": [sha256_of(table) for table in self.given.ontology],
        }

    def is_prepared(self) -> bool:
        """Whether the data are there, of a run that was asked for the same.

        Raises
        ------
        ValueError
            If they are those of another run, naming what differs.
        """
        if not self.data.exists():
            return False
        asked, unfinished = self.identity(), read_json(self.data / "run.json")
        other = _options_that_differ(asked, unfinished)
        if other:
            raise ValueError(
                f"{self.folder} holds an unfinished run with another {', '.join(other)}. Give the "
                "same command as before to continue it, or another --out, or remove that folder."
            )
        return True


def _options_that_differ(asked: JsonObject, unfinished: JsonObject) -> list[str]:
    """Return the options by which two runs differ; with the values of keys, seed and settings."""
    now, before = _by_key(asked), _by_key(unfinished)
    other = [key for key in now if now[key] != before.get(key)]
    named = [_option(key, before.get(key), now[key]) for key in other if key != "dataset.dataset"]
    return named[:1] if "version" in other else named  # another version has other settings, too


def _by_key(content: JsonObject, above: str = "") -> JsonObject:
    """Return the values of nested settings by keys such as config.finetune.seeds."""
    found: JsonObject = {}
    for key, value in content.items():
        name = f"{above}{key}"
        found |= _by_key(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _option(key: str, before: Any, now: Any) -> str:
    section, _, setting = key.partition(".")
    option = OPTIONS.get(key, f"value of {setting} (--config)")
    if section not in {"dataset", "config", "version"}:
        return option
    return f"{option} ({_shown(before)} before, {_shown(now)} now)"


def _shown(value: Any) -> str:
    """Return a value as one would give it."""
    if value is None or value == "":
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
