"""Damage to bytes, to tables and to trees of values, drawn from a generator."""

import copy
import json
import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
EXECUTED = "EXECUTED"  # the file that a pickle makes where it is loaded


class Payload:
    """What makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (EXECUTED,)


def _deep(n: int = 3000) -> list[Any]:
    found: list[Any] = []
    for _ in range(n):
        found = [found]
    return found


ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 2**31, 2**63, 10**30, -(2**31), 1e308, -0.5, 0.5),
    *(math.nan, math.inf, -math.inf, "", " ", "x", "nan", "-1", "1e400", "\0", "\n", "\ufeff"),
    *("../../outside", "/etc/passwd", "$(touch EXECUTED)", "`id`; {x}", "ä€😀", "A" * 300_000),
    *([], {}, [[]], [1, "x", None], {"a": {"b": []}}, [-1] * 3, ["x"] * 3, {"": ""}),
)


def odd(rng: Rng) -> Any:
    """Return a value that may be of another type, or without sense."""
    return copy.deepcopy(ODD[rng.integers(len(ODD))])


def change_tree(tree: Any, rng: Rng) -> str:
    """Change a value of nested dicts and lists in place: another value, gone, or one more."""
    place, path = tree, []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = keys[rng.integers(len(keys))]
        path.append(str(key))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            place = inner
            continue
        match rng.integers(5):
            case 0:
                del place[key]
                return f"{'.'.join(path)} gone"
            case 1 if isinstance(place, dict):
                place[f"{key}_x"] = place.pop(key)
                return f"{'.'.join(path)} renamed"
            case _:
                place[key] = odd(rng)
                return f"{'.'.join(path)} = {str(place[key])[:30]!r}"
    return "nothing to change"


def damage_bytes(path: Path, rng: Rng) -> str:
    """Change a file without knowing what it holds."""
    content = bytearray(path.read_bytes())
    size = max(len(content), 1)
    start = int(rng.integers(size))
    match rng.integers(8):
        case 0 | 1 | 2:
            for place in rng.integers(size, size=rng.integers(1, 5)):
                if content:
                    content[place] ^= int(rng.integers(1, 256))
            what = "bytes flipped"
        case 3:
            del content[start:]
            what = f"cut after {start} of {size} bytes"
        case 4:
            content[start:] = bytes(len(content) - start)  # as a file system leaves it
            what = f"zeros from byte {start} on"
        case 5:
            content[start : start + 64] = rng.bytes(64)
            what = "64 random bytes inside"
        case 6:
            content += rng.bytes(int(rng.integers(1, 100)))
            what = "bytes appended"
        case _:
            del content[start : start + int(rng.integers(1, 40))]
            what = "bytes gone inside"
    path.write_bytes(content)
    return what


def replace_file(path: Path, rng: Rng) -> str:
    """Put something else in the place of a file."""
    others = sorted(file for file in path.parent.iterdir() if file.is_file() and file != path)
    other = others[rng.integers(len(others))] if others else path
    content = other.read_bytes()
    path.unlink()
    puts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("gone", lambda: None),
        ("a folder", path.mkdir),
        ("a pickle", lambda: path.write_bytes(pickle.dumps(Payload()))),
        ("empty", path.touch),
        ("random bytes", lambda: path.write_bytes(rng.bytes(3000))),
        ("a link", lambda: path.symlink_to("/etc/passwd")),
        (f"{other.name} in its place", lambda: path.write_bytes(content)),
    )
    what, put = puts[rng.integers(len(puts))]
    put()
    return what


def change_json(path: Path, rng: Rng) -> str:
    """Change a value of a JSON file."""
    content = json.loads(path.read_text())
    what = change_tree(content, rng)
    if rng.random() < 0.03:
        content, what = [content], "a list around it"
    if rng.random() < 0.03:
        path.write_text("[" * 100_000)
        return "nested without end"
    path.write_text(json.dumps(content))
    return what


def change_safetensors(path: Path, rng: Rng) -> str:
    """Change what the header of safetensors says of an array, or its numbers."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    body = bytearray(content[8 + length :])
    if rng.random() < 0.4:
        kinds = (np.nan, np.inf, -np.inf, 1e38)
        value = np.float32(kinds[rng.integers(len(kinds))]).tobytes()
        place = 4 * int(rng.integers(max(len(body) // 4, 1)))
        body[place : place + 4] = value
        what = "a number that is not finite, or huge"
    elif rng.random() < 0.3:
        name = list(header)[rng.integers(len(header))]
        types = ("F16", "F64", "I64", "U8", "BOOL", "BF16", "F32", "X")
        header[name]["dtype"] = types[rng.integers(len(types))]
        what = f"{name} of another type"
    else:
        what = change_tree(header, rng)
    text = json.dumps(header).encode()
    size = int(rng.integers(2**63)) if rng.random() < 0.05 else len(text)
    path.write_bytes(struct.pack("<Q", size) + text + bytes(body))
    return what


def change_table(path: Path, rng: Rng) -> str:
    """Change a tab-separated table as an editor, a person or a bad transfer could."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    row = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[row])))
    if rng.random() < 0.3:
        return _write_otherwise(path, rows, rng)
    cells, value = rows[row], str(odd(rng))
    changes: tuple[tuple[float, str, Callable[[], object]], ...] = (
        (5, f"cell {row}, {column} = {value[:30]!r}", lambda: cells.__setitem__(column, value)),
        (1, f"column {column} gone", lambda: [line.pop(column) for line in rows if line[column:]]),
        (1, f"line {row} twice", lambda: rows.append(list(cells))),
        (1, f"line {row} cut", lambda: rows.__setitem__(row, cells[:column])),
        (1, f"line {row} gone", lambda: rows.pop(row)),
        (1, f"line {row} longer", lambda: cells.append(value)),
        (1, "all lines longer", lambda: [line.append("x") for line in rows[1:]]),
        (1, "an open quote", lambda: cells.__setitem__(column, '"' + cells[column])),
    )
    weights = np.array([weight for weight, _, _ in changes])
    _, what, change = changes[rng.choice(len(changes), p=weights / weights.sum())]
    change()
    _write(path, rows, "utf-8")
    return what


def _write_otherwise(path: Path, rows: list[list[str]], rng: Rng) -> str:
    """Write a table in another encoding or with other ends of lines."""
    rows[-1][-1] += "\xe4"
    forms = (
        *(("utf-16", "\n"), ("latin-1", "\n"), ("utf-8-sig", "\n")),
        *(("utf-8", "\r\n"), ("utf-8", "\r"), ("utf-8", "\n\n")),
    )
    encoding, end = forms[rng.integers(len(forms))]
    _write(path, rows, encoding, end)
    return f"in {encoding}, lines end in {end!r}"


def _write(path: Path, rows: list[list[str]], encoding: str, end: str = "\n") -> None:
    text = end.join("\t".join(cells) for cells in rows) + end
    path.write_bytes(text.encode(encoding, "replace"))


def one_of(rng: Rng, *ways: tuple[float, Callable[[Path, Rng], str]]) -> Callable[[Path, Rng], str]:
    """Choose a way of damage by its weight."""
    weights = np.array([weight for weight, _ in ways])
    return ways[rng.choice(len(ways), p=weights / weights.sum())][1]
