"""Many damaged copies of each kind of input, and what came of them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.damage import EXECUTED
from tests.faults.formats import SIGNED_AGAIN
from tests.faults.inputs import Kind
from tests.faults.watched import outcome

SAME, OTHER, REFUSED = "same result", "other values read", "refused"
NAMED = (  # messages about values name the key instead of the file
    *("configuration:", "table of methods", "the model's novelty score", "the model gives"),
)
FINE = (SAME, OTHER, REFUSED)


@dataclass(frozen=True)
class Try:
    """A damaged input: what was done to it, and what came of it."""

    kind: str
    number: int
    damage: str
    verdict: str
    words: str

    @property
    def is_fine(self) -> bool:
        """Whether it is what the documentation says."""
        return self.verdict in FINE


def tries(kind: Kind, n: int, seed: int, folder: Path) -> Iterator[Try]:
    """Damage a kind of input n times; try 0 is the whole one, which must be read.

    Each try has a generator of its own, so that one alone can be done again.
    """
    folder.mkdir(exist_ok=True)
    _, whole = _once(kind, None, folder)
    yield Try(kind.name, 0, "none", SAME if whole[0] == "read" else whole[0], whole[1])
    for number in range(1, n + 1):
        rng = np.random.default_rng([seed, number])
        damage, (verdict, words) = _once(kind, rng, folder)
        if verdict == "read":
            verdict, words = _compare(kind, damage, words == whole[1])
        yield Try(kind.name, number, damage, verdict, words)


def _compare(kind: Kind, damage: str, same: bool) -> tuple[str, str]:
    if same:
        return SAME, ""
    if kind.checked and SIGNED_AGAIN not in damage:
        return "silently different", ""
    return OTHER, ""


def _once(kind: Kind, rng: np.random.Generator | None, folder: Path) -> tuple[str, tuple[str, str]]:
    shutil.rmtree(folder)
    folder.mkdir()
    path = folder / kind.whole.name
    if kind.whole.is_dir():
        shutil.copytree(kind.whole, path)
    else:
        shutil.copyfile(kind.whole, path)
    damage = "" if rng is None else kind.hurt(path, rng)
    result = outcome(lambda: kind.read(path, folder), folder, (str(path), path.name, *NAMED))
    if (folder / EXECUTED).exists() or Path(EXECUTED).exists():
        return damage, ("executed", "")
    return damage, result
