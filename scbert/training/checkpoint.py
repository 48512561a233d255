"""The state of a training run on disk: weights, optimizer, position. Nothing is unpickled.

Each checkpoint is a folder of its own, named by its optimizer step, which appears by one rename;
only then older ones are deleted. So there is a complete one whenever the run is killed. Its
manifest holds the SHA-256 of its files: one that is damaged is noticed, and the one before it used.
Random numbers are not kept: every draw follows from the seed and the number of epoch and batch.
"""

import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scbert.files import publish, read_json, sha256_of, write_json
from scbert.training.state import Checkpoint

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
FILES = (WEIGHTS, OPTIMIZER, STATE)
STATE_TYPE = TypeAdapter(Checkpoint)


def save_checkpoint(
    folder: Path,
    state: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict,
    keep: int,
) -> None:
    """Write the state beside the earlier ones, then delete all but `keep` and the best.

    Raises
    ------
    ValueError
        If it cannot be written, as on a full disk; the earlier ones stay as they were.
    """
    newest = folder / state.name
    if newest.is_dir() and _damage(newest) is None:
        return  # told to stop before the first step that follows
    try:
        with publish(newest) as unfinished:
            unfinished.mkdir()
            _save_tensors(unfinished / WEIGHTS, model.state_dict())
            _save_tensors(unfinished / OPTIMIZER, _moments(optimizer))
            write_json(unfinished / STATE, {"identity": identity, **asdict(state)})
            sums = {name: sha256_of(unfinished / name) for name in FILES}
            write_json(unfinished / MANIFEST, sums)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint of step {state.step} could not be written to {folder} ({error}). "
            "Those before it are intact. Free space and start again: the run continues from there."
        ) from error
    _delete_older(folder, keep, state.best_name)


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: value.detach().contiguous() for key, value in tensors.items()}, path)


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    # Without its param_groups: they follow from the settings and the position.
    return {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _delete_older(folder: Path, keep: int, best: str | None) -> None:
    found = _complete(folder)
    for older in found[:-keep]:
        if older.name != best:
            shutil.rmtree(older)


def _complete(folder: Path) -> list[Path]:
    """Return the checkpoints in the folder, ascending."""
    return sorted(folder.glob("step*"))


def tidy(folder: Path) -> None:
    """Delete what a killed run was writing, and set damaged checkpoints aside.

    Only the one that holds the folder may.

    Raises
    ------
    ValueError
        If there are checkpoints, but all of them are damaged.
    """
    for rest in folder.glob(".step*"):
        shutil.rmtree(rest)
    damaged: list[Path] = []
    for path in reversed(_complete(folder)):
        damage = _damage(path)
        if damage is None:
            break
        log.warning("%s is damaged: %s", path, damage)
        damaged.append(path)
    else:
        if damaged:
            raise ValueError(
                f"none of the {len(damaged)} checkpoint(s) in {folder} is intact; the newest: "
                f"{_damage(damaged[0])}. Restore one from a copy, or delete the folder to start "
                "anew."
            )
    for path in damaged:
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        log.warning("%s is set aside as %s; the one before it is used", path.name, aside.name)


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds; `tensors` are those of the model and the optimizer, named apart."""

    state: Checkpoint
    tensors: dict[str, Tensor]


def read_checkpoint(folder: Path, identity: dict) -> Saved | None:
    """Read the newest checkpoint; None if there is none. See `tidy`.

    Raises
    ------
    ValueError
        If it belongs to another run, naming what differs.
    """
    found = _complete(folder)
    return _read(found[-1], identity) if found else None


def _damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint or with the best one that it needs; None if nothing."""
    try:
        sums = read_json(path / MANIFEST)
        for name in FILES:
            if sums[name] != sha256_of(path / name):
                return f"the SHA-256 of {path.name}/{name} differs"
        best = _read_state(path).best_name
        for name in (WEIGHTS, OPTIMIZER):
            with safe_open(path / name, framework="pt"):  # reads what it holds, not the numbers
                pass
    except (OSError, LookupError, TypeError, ValueError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"
    if best in (None, path.name):
        return None
    found = _damage(path.parent / best)
    return found and f"of the best epoch, which it needs: {found}"


def _read_state(path: Path) -> Checkpoint:
    saved = read_json(path / STATE)
    del saved["identity"]
    return STATE_TYPE.validate_python(saved)


def _read(path: Path, identity: dict) -> Saved:
    differing = differences(read_json(path / STATE)["identity"], identity)
    if differing:
        raise ValueError(
            f"{path.parent} holds the checkpoint of another run; these differ: "
            f"{', '.join(differing)}. Restore them to continue that run; if you changed nothing, "
            "an older version of scbert began it: continue with that one. Or delete the folder to "
            "start anew."
        )
    tensors = {
        f"{file}/{name}": value
        for file in (WEIGHTS, OPTIMIZER)
        for name, value in load_file(path / file).items()
    }
    return Saved(_read_state(path), tensors)


def restore(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put what `read_checkpoint` found into model and optimizer."""
    weights, moments = (
        {
            name.removeprefix(f"{file}/"): value
            for name, value in tensors.items()
            if name.startswith(f"{file}/")
        }
        for file in (WEIGHTS, OPTIMIZER)
    )
    model.load_state_dict(weights)
    optimizer.load_state_dict(_optimizer_state(optimizer, moments))


def read_best(folder: Path, state: Checkpoint) -> dict[str, Tensor] | None:
    """Return the best weights, if a number chose any."""
    return None if state.best_name is None else load_file(folder / state.best_name / WEIGHTS)


def remove_checkpoint(folder: Path) -> None:
    """Delete the state of a complete run: the next one starts anew, with its own settings."""
    shutil.rmtree(folder, ignore_errors=True)


def _optimizer_state(
    optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]
) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def differences(first: Any, second: Any, prefix: str = "") -> list[str]:
    """Return the dotted names of the keys whose values differ."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [prefix]
    names = sorted(first.keys() | second.keys())
    return [
        found
        for name in names
        for found in differences(first.get(name), second.get(name), f"{prefix}.{name}".lstrip("."))
    ]
