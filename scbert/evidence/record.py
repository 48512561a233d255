"""Records that were written and are read again: JSON of known keys."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Self

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
        content = read_json(path)
        with explained(path):
            return cls.of(content)

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


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Name the file of which the content is not that of a record."""
    try:
        yield
    except (ValidationError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold what this version of scbert writes there: "
            f"{' '.join(str(error).split())[:300]}. Make it again."
        ) from error
