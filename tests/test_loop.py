import math

import numpy as np
import pytest
import torch
from torch import nn

from scbert.files import read_json
from scbert.training.batches import MiniBatch
from scbert.training.loop import Task, fit, make_accelerator, schedule

N_CELLS, WIDTH = 24, 4
TIMING = {"seconds", "cells_per_second", "tokens_per_second"}


@pytest.fixture
def settings(config):
    optimizer = config.finetune.optimizer
    return type(optimizer).model_validate(
        optimizer.model_dump() | {"epochs": 6, "warmup": 0.2, "learning_rate": 0.05}
    )


class Interrupted(Exception):
    """What stands for a kill."""


class Toy:
    """A linear model with dropout, of cells whose label is the sign of their first number."""

    def __init__(self, stop_before=None, poison=None, scores=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Dropout(0.3), nn.Linear(WIDTH, 2))
        self.x = torch.randn(N_CELLS, WIDTH, generator=torch.Generator().manual_seed(1))
        self.label = (self.x[:, 0] > 0).long()
        self.stop_before, self.poison, self.scores = stop_before, poison, scores
        self.steps, self.rates, self.validated = [], [], 0

    def batches(self, epoch):
        if epoch == self.stop_before:
            raise Interrupted
        order = np.random.default_rng([7, epoch]).permutation(N_CELLS)
        self.epoch = epoch
        empty = torch.ones(8, 1, dtype=torch.long)
        return 3, (MiniBatch(rows, empty, empty, empty.bool()) for rows in np.array_split(order, 3))

    def loss(self, model, batch):
        value = nn.functional.cross_entropy(
            model(self.x[batch.rows]), self.label[batch.rows], reduction="sum"
        )
        if self.epoch == self.poison:
            value = value * math.nan
        return value, torch.tensor(len(batch.rows))

    def validate(self):
        self.validated += 1
        right = (self.model(self.x).argmax(dim=1) == self.label).double().mean().item()
        score = right if self.scores is None else self.scores[self.epoch]
        return {"validation_score": score, "validation_mode": float(self.model.training)}

    def fit(self, settings, folder, seed=3, **task):
        given = {"better": "validation_score", "identity": {"settings": settings.model_dump()}}
        made = Task(
            self.model,
            self.batches,
            self.loss,
            self.validate,
            after_step=self.steps.append,
            **given | task,
        )
        return fit(made, settings, seed, make_accelerator(settings), folder)

    def bits(self):
        return {key: value.numpy().tobytes() for key, value in self.model.state_dict().items()}


def untimed(history):
    return [{key: v for key, v in record.items() if key not in TIMING} for record in history]


def change(settings, **values):
    return type(settings).model_validate(settings.model_dump() | values)


def test_schedule_of_ten_percent_warm_up():
    """Half of the warm-up is half the peak; half of the cosine, at 0.55, as well; then zero."""
    given = [0.0, 0.05, 0.1, 0.55, 1.0]
    found = [schedule(progress, 0.1) for progress in given]
    assert found == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.0])
    assert schedule(0.0, 0.0) == 1.0  # no warm-up


def test_schedule_rises_then_falls():
    rates = np.array([schedule(progress, 0.3) for progress in np.linspace(0, 1, 101)])
    assert rates.argmax() == 30
    assert (np.diff(rates[:31]) > 0).all()
    assert (np.diff(rates[30:]) < 0).all()
    assert rates.min() >= 0


def test_fit_learns_and_tells_its_history(settings, tmp_path):
    toy = Toy()
    history = toy.fit(settings, tmp_path / "state")
    assert [record["epoch"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in history] == [3, 6, 9, 12, 15, 18]
    assert toy.steps == list(range(1, 19))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["validation_score"] > 0.9
    assert {record["validation_mode"] for record in history} == {0.0}  # without dropout


def test_fit_is_a_hand_written_loop(settings, tmp_path):
    """AdamW, the schedule and clipping, written out for a model without dropout."""
    toy, twin = Toy(), Toy()
    toy.model[0].p = twin.model[0].p = 0.0
    toy.fit(settings, tmp_path / "state", better=None)
    optimizer = torch.optim.AdamW(twin.model.parameters(), weight_decay=settings.weight_decay)
    for epoch in range(settings.epochs):
        for number, batch in enumerate(twin.batches(epoch)[1]):
            progress = (epoch + number / 3) / settings.epochs
            optimizer.param_groups[0]["lr"] = 0.05 * schedule(progress, 0.2)
            loss, n_cells = twin.loss(twin.model, batch)
            (loss / n_cells).backward()
            nn.utils.clip_grad_norm_(twin.model.parameters(), settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
    assert toy.bits() == twin.bits()


def test_accumulation_steps_less_often_and_after_the_last_batch(settings, tmp_path):
    """Three batches, two per step: after the second and after the third."""
    toy = Toy()
    history = toy.fit(change(settings, accumulation=2), tmp_path / "state")
    assert [record["step"] for record in history] == [2, 4, 6, 8, 10, 12]


def test_accumulated_batches_are_one_large_batch(settings, tmp_path):
    """Three batches of eight cells, one step of their mean: as one batch of 24 cells."""
    options = change(settings, accumulation=3, epochs=1, clip_norm=1e6)
    toy, twin = Toy(), Toy()
    toy.model[0].p = twin.model[0].p = 0.0
    whole = torch.ones(N_CELLS, 1, dtype=torch.long)
    twin.batches = lambda epoch: (
        1,
        [MiniBatch(np.arange(N_CELLS), whole, whole, whole.bool())],
    )
    twin.epoch = 0
    toy.fit(options, tmp_path / "many", better=None)
    flat = change(options, accumulation=1, warmup=0.0)
    twin.fit(flat, tmp_path / "one", better=None)
    # Adam's first step is the sign of the gradient times the rate, so compare its moments.
    many, one = (
        first_moments(tmp_path / name / "epoch00001" / "optimizer.safetensors")
        for name in ("many", "one")
    )
    for key, value in many.items():
        torch.testing.assert_close(value, one[key], atol=1e-7, rtol=1e-5)


def first_moments(path):
    from safetensors.torch import load_file  # noqa: PLC0415  used here only

    return {key: value for key, value in load_file(path).items() if key.endswith("exp_avg")}


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_an_interrupted_run_ends_with_the_same_bits(settings, tmp_path, stop):
    whole, first, second = Toy(), Toy(stop_before=stop), Toy()
    expected = whole.fit(settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        first.fit(settings, tmp_path / "parts")
    torch.manual_seed(123)  # another process: the state of the generator is another
    history = second.fit(settings, tmp_path / "parts")
    assert untimed(history) == untimed(expected)
    assert second.bits() == whole.bits()
    assert second.steps == list(range(3 * stop + 1, 19))


def test_a_finished_run_is_not_trained_again(settings, tmp_path):
    first, again = Toy(), Toy()
    history = first.fit(settings, tmp_path / "state")
    assert again.fit(settings, tmp_path / "state") == history
    assert again.steps == []
    assert again.bits() == first.bits()


def test_the_same_seed_gives_the_same_bits(settings, tmp_path):
    """Only dropout depends on the seed here."""
    runs = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        toy = Toy()
        toy.fit(settings, tmp_path / name, seed=seed, better=None)
        runs.append(toy.bits())
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_changed_settings_are_refused_by_name(settings, tmp_path):
    with pytest.raises(Interrupted):
        Toy(stop_before=2).fit(settings, tmp_path / "state")
    changed = change(settings, learning_rate=0.1, epochs=9)
    with pytest.raises(
        ValueError, match=r"differ: settings\.epochs, settings\.learning_rate\. Restore them"
    ):
        Toy().fit(changed, tmp_path / "state")


def test_the_best_weights_are_restored(settings, tmp_path):
    """The third epoch scores best; a run of three epochs with the same schedule ends with it."""
    toy = Toy(scores=[0.1, 0.2, 0.9, 0.3, 0.9, 0.4])  # a tie: the first stays
    seen = []
    original = toy.validate
    toy.validate = lambda: seen.append(toy.bits()) or original()
    toy.fit(settings, tmp_path / "state")
    assert toy.bits() == seen[2]
    assert toy.bits() != seen[5]


def test_the_last_weights_are_kept_where_nothing_is_better(settings, tmp_path):
    toy = Toy(scores=[0.9, 0.2, 0.1, 0.1, 0.1, 0.1])
    seen = []
    original = toy.validate
    toy.validate = lambda: seen.append(toy.bits()) or original()
    toy.fit(settings, tmp_path / "state", better=None)
    assert toy.bits() == seen[-1]


def test_patience_stops_after_epochs_without_a_better_one(settings, tmp_path):
    """Best at the second epoch, patience two: the fourth is the last, also after a resume."""
    scores = [0.1, 0.5, 0.5, 0.4, 0.9, 0.9]
    history = Toy(scores=scores).fit(settings, tmp_path / "state", patience=2)
    assert len(history) == 4
    again = Toy(scores=scores)
    assert again.fit(settings, tmp_path / "state", patience=2) == history
    assert again.steps == []


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint_before(settings, tmp_path):
    toy = Toy(poison=2)
    with pytest.raises(FloatingPointError, match=r"train_loss of epoch 3 is nan.*learning_rate"):
        toy.fit(settings, tmp_path / "state")
    assert toy.validated == 2
    saved = read_json(tmp_path / "state/epoch00002/state.json")
    assert len(saved["history"]) == 2
    healed = Toy()
    assert len(healed.fit(settings, tmp_path / "state")) == 6
    assert all(torch.isfinite(weight).all() for weight in healed.model.parameters())


def test_a_validation_that_is_not_finite_stops_as_well(settings, tmp_path):
    """The last step of an epoch can break the weights after its loss was still finite."""
    toy = Toy(scores=[0.5, math.nan, 0.5])
    with pytest.raises(FloatingPointError, match="validation_score of epoch 2 is nan"):
        toy.fit(settings, tmp_path / "state")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["epoch00001"]


def test_weights_that_need_no_gradient_stay(settings, tmp_path):
    toy = Toy()
    toy.model[1].bias.requires_grad_(requires_grad=False)
    before = toy.model[1].bias.clone()
    toy.fit(settings, tmp_path / "state", better=None)
    assert torch.equal(toy.model[1].bias, before)
