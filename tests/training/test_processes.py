"""Two processes of torchrun (gloo, CPU) against one with twice the accumulation.

The second one sees everything differently, as on another node: its CPU draws other weights, its
file system shows no checkpoint, and it may not read the tokens a second time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scbert.files import read_json
from scbert.tokens.store import open_store
from scbert.training.corpus import choose_validation_cells
from scbert.training.devices import make_accelerator
from scbert.training.processes import (
    add_up_gradients,
    is_first_of_node,
    require_same_weights,
    tensors_of_first,
    together,
    told_by_first,
)

ROOT = Path(__file__).parents[2]
PROJECTION = "encoder.performer.net.layers.0.0.fn.fast_attention.projection_ME"


def twenty_steps(config, change, accumulation):
    """Four epochs of nine batches: four steps of two, and one of a single batch."""
    optimizer = change(
        config.pretrain.optimizer, epochs=4, tokens_per_batch=256, accumulation=accumulation
    )
    pretraining = change(config.pretrain, optimizer=optimizer.model_dump(), redraw_interval=3)
    network = change(config.network, dropout=0.1, depth=1)
    return config.model_copy(update={"pretrain": pretraining, "network": network})


def one_of_two(folder):
    """What each of the two processes runs; it notes the cells that it makes batches of.

    And how often it asked the reference predictors.
    """
    from scbert.training import validation_loss  # noqa: PLC0415
    from scbert.training.cell_batches import CellBatches  # noqa: PLC0415
    from tests.conftest import change, run_pretrain, small_config  # noqa: PLC0415

    folder, rank = Path(folder), os.environ["RANK"]
    if rank == "1":
        see_all_differently()
    made, original = [], CellBatches.make
    CellBatches.make = lambda cells, rows: made.append(rows.tolist()) or original(cells, rows)
    asked, ask = [], validation_loss.ask_predictors
    validation_loss.ask_predictors = lambda *given: asked.append(True) or ask(*given)
    paths = json.loads((folder / "paths.json").read_text())
    paths = SimpleNamespace(**{name: Path(path) for name, path in paths.items()})
    config = twenty_steps(small_config(), change, accumulation=1)
    run_pretrain(paths, config, folder / "two", folder / "two_state")
    (folder / f"made{rank}.json").write_text(json.dumps(made))
    (folder / f"asked{rank}.json").write_text(json.dumps(len(asked)))


def see_all_differently():
    """Draw other weights, and fail where a checkpoint is looked for or a store is hashed."""
    from scbert.steps import pretrain  # noqa: PLC0415
    from scbert.tokens import store  # noqa: PLC0415
    from scbert.training import checkpoint  # noqa: PLC0415

    original = pretrain.new_pretraining_model

    def other_weights(*given):
        model = original(*given)
        for value in model.state_dict().values():
            value.add_(0.01)
        return model

    pretrain.new_pretraining_model = other_weights
    store.check_files = checkpoint._complete = refuse


def refuse(*given):
    raise AssertionError(f"this process must not look: {given}")


def run_two(tmp_path, function):
    """Run a function of this file in two processes of torchrun."""
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.training.test_processes import {function}\n{function}({str(tmp_path)!r})\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(program)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_twice_the_accumulation(toy, toy_run, config, tmp_path):
    """Sums differ in their order only, so the weights agree to 1e-5 after 20 steps."""
    paths = {name: str(path) for name, path in vars(toy_run).items()}
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    run_two(tmp_path, "one_of_two")
    one = twenty_steps(config, toy.change, accumulation=2)
    toy.pretrain(toy_run, one, tmp_path / "one", tmp_path / "one_state")

    alone, together = (load_file(tmp_path / f"{n}/weights.safetensors") for n in ("one", "two"))
    for name, weight in alone.items():
        torch.testing.assert_close(weight, together[name], atol=1e-5, rtol=0)
    assert torch.equal(alone[PROJECTION], together[PROJECTION])  # redrawn six times
    histories = [lines(tmp_path / f"{n}/history.jsonl") for n in ("one", "two")]
    assert [record["step"] for record in histories[1]] == [5, 10, 15, 20]
    for first, second in zip(*histories, strict=True):
        for key in ("train_loss", "validation_loss", "validation_skill"):
            assert second[key] == pytest.approx(first[key], abs=1e-5)
    results = [read_json(tmp_path / f"{n}/validation.json") for n in ("one", "two")]
    assert results[0]["masked_tokens"] == results[1]["masked_tokens"]
    assert results[0]["predictors"] == results[1]["predictors"]
    assert [read_json(tmp_path / f"asked{rank}.json") for rank in (0, 1)] == [1, 0]
    assert results[0]["skill"] == pytest.approx(results[1]["skill"], abs=1e-5)

    training, _ = choose_validation_cells(open_store(toy_run.corpus), config.pretrain)
    shares = [json.loads((tmp_path / f"made{rank}.json").read_text()) for rank in (0, 1)]
    trained = [[row for rows in share for row in rows if row in training] for share in shares]
    assert min(map(len, trained)) > 0.3 * 4 * len(training)  # each has a fair part
    assert sorted(trained[0] + trained[1]) == sorted(np.repeat(training, 4))  # once per epoch


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_add_up_gradients_divides_by_the_items():
    weights = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
    weights[0].grad = torch.tensor([3.0, 6.0])
    add_up_gradients(weights, torch.tensor(3))
    assert weights[0].grad.tolist() == [1.0, 2.0]
    assert weights[1].grad is None
    add_up_gradients(weights, torch.tensor(0))  # a step without a masked gene
    assert weights[0].grad.tolist() == [1.0, 2.0]


def talks_with_the_other(folder):
    """What each of two processes runs; it notes what it was told, and how a failure looks to it."""
    from scbert.steps.pretrain import open_for_all  # noqa: PLC0415
    from scbert.tokens import store  # noqa: PLC0415

    accelerator = make_accelerator(torch.device("cpu"), "no")
    folder, rank = Path(folder), int(os.environ["RANK"])
    own = {"a": torch.full((2, 3), float(rank)), "b": torch.tensor(rank)}
    first = tensors_of_first(own if rank == 0 else {})
    noted = {
        "done": together(lambda: f"by {rank}", mine=rank == 1),
        "told": told_by_first(f"from {rank}"),
        "received": {name: value.tolist() for name, value in first.items()},
        "failures": [],
    }

    def fail(*given):
        raise OSError(f"disk full on {rank}")

    store.check_files = fail if is_first_of_node() else refuse
    for work in (
        lambda: together(fail, mine=rank == 1),
        lambda: open_for_all(folder / "store"),
        lambda: require_same_weights(torch.nn.Linear(2, 1)),  # each has drawn its own
    ):
        torch.manual_seed(rank)
        try:
            work()
        except (ValueError, RuntimeError) as error:
            noted["failures"].append(str(error))
    (folder / f"noted{rank}.json").write_text(json.dumps(noted))
    accelerator.end_training()  # else the one that ends first may abort the other


@pytest.mark.slow
def test_what_the_first_says_and_why_one_failed_all_know(toy_run, tmp_path):
    """Nobody is left waiting for one that failed."""
    (tmp_path / "store").symlink_to(toy_run.corpus)
    run_two(tmp_path, "talks_with_the_other")
    first, second = (read_json(tmp_path / f"noted{rank}.json") for rank in (0, 1))
    assert (first.pop("done"), second.pop("done")) == (None, "by 1")
    assert first == second
    assert first["told"] == "from 0"
    assert first["received"] == {"a": [[0.0] * 3] * 2, "b": 0}
    by_other, by_store, by_weights = first["failures"]
    assert by_other == "disk full on 1"
    assert by_store == "disk full on 0"
    assert by_weights.startswith("the processes have different weights in weight")


def test_alone_nothing_is_asked_of_others():
    tensors = {"a": torch.zeros(2)}
    assert tensors_of_first(tensors) is tensors
    assert told_by_first("me") == together(lambda: "me", mine=True) == "me"
    assert together(lambda: "me", mine=False) is None
    with pytest.raises(OSError, match="full"):
        together(lambda: (_ for _ in ()).throw(OSError("full")), mine=True)
    require_same_weights(torch.nn.Linear(1, 1))
