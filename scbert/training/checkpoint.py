"""The state of a training run on disk: weights, optimizer, history. Nothing is pickled.

Each epoch is written to a folder of its own, epoch00001 and so on, which appears by one rename;
only then the one before it is deleted. So there is a complete one whenever the run is killed.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scbert.files import publish, read_json, write_json


@dataclass
class Checkpoint:
    """What a run knows after some epochs."""

    step: int = 0
    history: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] | None = None

    @property
    def epochs_done(self) -> int:
        """Number of complete epochs."""
        return len(self.history)

    def epochs_since_best(self, better: str | None) -> int:
        """Return how many epochs ago the best one was."""
        return self.epochs_done - self.best_epoch if better else 0

    def add(self, record: dict, model: nn.Module, better: str | None) -> None:
        """Add an epoch, and keep its weights if it is the best so far."""
        self.history.append(record)
        if better is None:
            return
        previous = self.history[self.best_epoch - 1][better] if self.best_epoch else -float("inf")
        if record[better] > previous:
            self.best_epoch = self.epochs_done
            self.best = {
                key: value.detach().cpu().clone() for key, value in model.state_dict().items()
            }

    def restore_best(self, model: nn.Module) -> None:
        """Put the best weights back, if any were kept."""
        if self.best is not None:
            model.load_state_dict(self.best)


def save_checkpoint(
    folder: Path,
    state: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict,
) -> None:
    """Write the state beside the previous one, then delete that."""
    newest = folder / f"epoch{state.epochs_done:05d}"
    with publish(newest) as unfinished:
        unfinished.mkdir()
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()},
            unfinished / "weights.safetensors",
        )
        moments = {
            f"{number}.{key}": value
            for number, values in optimizer.state_dict()["state"].items()
            for key, value in values.items()
        }
        save_file(moments, unfinished / "optimizer.safetensors")
        if state.best is not None:
            save_file(state.best, unfinished / "best.safetensors")
        progress = {"step": state.step, "best_epoch": state.best_epoch, "history": state.history}
        write_json(unfinished / "state.json", {"identity": identity, **progress})
    for older in (*_complete(folder), *folder.glob(".epoch*")):  # the latter: left by a kill
        if older != newest:
            shutil.rmtree(older)


def _complete(folder: Path) -> list[Path]:
    """Return the epochs in the folder, ascending."""
    return sorted(folder.glob("epoch*"))


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, identity: dict
) -> Checkpoint | None:
    """Load the state into model and optimizer; None if there is none.

    Raises
    ------
    ValueError
        If it belongs to another task, naming what differs.
    """
    found = _complete(folder)
    if not found:
        return None
    newest = found[-1]
    saved = read_json(newest / "state.json")
    differing = differences(saved["identity"], identity)
    if differing:
        raise ValueError(
            f"{folder} holds the checkpoint of another run; these differ: {', '.join(differing)}. "
            "Restore them to continue that run, or delete the folder to start anew."
        )
    model.load_state_dict(load_file(newest / "weights.safetensors"))
    optimizer.load_state_dict(
        _optimizer_state(optimizer, load_file(newest / "optimizer.safetensors"))
    )
    best = newest / "best.safetensors"
    return Checkpoint(
        step=saved["step"],
        history=saved["history"],
        best_epoch=saved["best_epoch"],
        best=load_file(best) if best.is_file() else None,
    )


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
