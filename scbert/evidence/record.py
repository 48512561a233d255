"""Records that were written and are read again: JSON of known keys, and a training's epochs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from scbert.files import JsonObject, read_json, write_json


class Record:
    """A frozen dataclass that is the content of a JSON file; a file's further keys are left out."""

    @classmethod
    def of(cls, content: JsonObject) -> Self:
        """Return what the content of a file says.

        Raises
        ------
        ValueError
            If a key is missing, or a value is of another type.
        """
        return TypeAdapter(cls).validate_python(cls._nested(content))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; see `of`."""
        try:
            return cls.of(read_json(path))
        except (ValidationError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} does not hold what this version of scbert writes there: "
                f"{' '.join(str(error).split())[:300]}. Make it again."
            ) from error

    def content(self) -> JsonObject:
        """Return what stands in the file."""
        return asdict(self)  # type: ignore[call-overload]  # every record is a dataclass

    def write(self, path: Path) -> None:
        """Write the file."""
        write_json(path, self.content())

    @classmethod
    def _nested(cls, content: JsonObject) -> JsonObject:
        """Return the content by the fields of the class, where the file has them side by side."""
        return content


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return a record for each epoch; none if the encoder stayed as it was pretrained."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def merit(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is compared between epochs: macro F1 of the validation cells, then their loss."""
    return record["validation_macro_f1"], -record["validation_loss"]


def best_epoch(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the record of the epoch that was kept; of equals the first."""
    return max(history, key=merit)
