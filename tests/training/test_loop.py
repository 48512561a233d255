import json
import math
import signal
from operator import itemgetter

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from scbert.files import read_json
from scbert.training import state
from scbert.training.devices import make_accelerator
from scbert.training.loop import fit
from scbert.training.losses import PendingLosses
from scbert.training.mini_batch import MiniBatch
from scbert.training.optimizer import cosine
from scbert.training.state import Task
from tests.timing import TIMING

N_CELLS, WIDTH = 24, 4


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
        self.steps, self.drawn, self.validated = [], [], 0
        self.poisoned_by, self.validating = math.nan, lambda stop: None
        self.after = lambda step: None

    def plan(self, epoch):
        if epoch == self.stop_before:
            raise Interrupted
        self.epoch = epoch
        return np.array_split(np.random.default_rng([7, epoch]).permutation(N_CELLS), 3)

    def make(self, rows, generator):
        empty = torch.ones(len(rows), 1, dtype=torch.long)
        drawn = torch.rand((), generator=generator)
        return MiniBatch(rows, empty, empty, empty.bool(), targets=drawn)

    def loss(self, model, batch):
        value = nn.functional.cross_entropy(
            model(self.x[batch.rows]), self.label[batch.rows], reduction="sum"
        )
        self.drawn.append(batch.targets.item())
        if len(self.steps) + 1 == self.poison:
            value = value * self.poisoned_by
        return value, torch.tensor(len(batch.rows))

    def validate(self, stop):
        self.validated += 1
        self.validating(stop)
        right = (self.model(self.x).argmax(dim=1) == self.label).double().mean().item()
        score = right if self.scores is None else self.scores[self.epoch]
        return {"validation_score": score, "validation_mode": float(self.model.training)}

    def after_step(self, step):
        self.steps.append(step)
        self.after(step)

    def fit(self, settings, folder, seed=3, **task):
        given = {
            "merit": itemgetter("validation_score"),
            "identity": {"settings": settings.model_dump()},
        }
        made = Task(
            self.model,
            self.plan,
            self.make,
            self.loss,
            self.validate,
            lambda rows: [f"cell{row}" for row in rows],
            after_step=self.after_step,
            **given | task,
        )
        accelerator = make_accelerator(torch.device("cpu"), settings.precision)
        return fit(made, settings, seed, accelerator, folder)

    def bits(self):
        return {key: value.numpy().tobytes() for key, value in self.model.state_dict().items()}


def untimed(history):
    return [{key: v for key, v in record.items() if key not in TIMING} for record in history]


def change(settings, **values):
    return type(settings).model_validate(settings.model_dump() | values)


def with_checkpoints(settings, **values):
    return change(settings, checkpoints=settings.checkpoints.model_dump() | values)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("step*"))


def test_schedule_of_ten_percent_warm_up():
    """Half of the warm-up is half the peak; half of the cosine, at 0.55, as well; then zero."""
    given = [0.0, 0.05, 0.1, 0.55, 1.0]
    found = [cosine(progress, 0.1) for progress in given]
    assert found == pytest.approx([0.01, 0.5, 1.0, 0.5, 0.0])
    assert cosine(0.0, 0.0) == 1.0  # no warm-up


def test_schedule_rises_then_falls():
    rates = np.array([cosine(progress, 0.3) for progress in np.linspace(0, 1, 101)])
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
    toy.fit(settings, tmp_path / "state", merit=None)
    optimizer = torch.optim.AdamW(twin.model.parameters(), weight_decay=settings.weight_decay)
    for epoch in range(settings.epochs):
        for number, rows in enumerate(twin.plan(epoch)):
            progress = (epoch + number / 3) / settings.epochs
            optimizer.param_groups[0]["lr"] = 0.05 * cosine(progress, 0.2)
            loss, n_cells = twin.loss(twin.model, twin.make(rows, None))
            loss.backward()
            for weight in twin.model.parameters():
                weight.grad /= n_cells
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
    twin.plan = lambda epoch: setattr(twin, "epoch", epoch) or [np.arange(N_CELLS)]
    toy.fit(options, tmp_path / "many", merit=None)
    flat = change(options, accumulation=1, warmup=0.0)
    twin.fit(flat, tmp_path / "one", merit=None)
    # Adam's first step is the sign of the gradient times the rate, so compare its moments.
    many, one = (
        first_moments(tmp_path / name / "step000000001-epoch00001" / "optimizer.safetensors")
        for name in ("many", "one")
    )
    for key, value in many.items():
        torch.testing.assert_close(value, one[key], atol=1e-7, rtol=1e-5)


def first_moments(path):
    from safetensors.torch import load_file  # noqa: PLC0415  used here only

    return {key: value for key, value in load_file(path).items() if key.endswith("exp_avg")}


@pytest.mark.parametrize("where", ["batch", "step", "validation"])
def test_sigterm_is_answered_by_a_checkpoint_and_the_run_ends_with_the_same_bits(
    settings, tmp_path, where
):
    """Inside a step of two batches, after a step, and while the third epoch is validated."""
    options = change(settings, accumulation=2)
    whole, first, second = Toy(), Toy(), Toy()
    expected = whole.fit(options, tmp_path / "whole")
    original = first.loss

    def loss(*given):
        if len(first.drawn) == 7:
            signal.raise_signal(signal.SIGTERM)
        return original(*given)

    if where == "validation":
        first.validating = lambda stop: first.epoch == 2 and signal.raise_signal(signal.SIGTERM)
    elif where == "batch":
        first.loss = loss
    else:
        first.after = lambda step: step == 5 and signal.raise_signal(signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        first.fit(options, tmp_path / "parts")
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    kept = {"batch": 4, "step": 5, "validation": 6}[where]
    assert checkpoints(tmp_path / "parts")[-1] == f"step{kept:09d}" + (
        "-epoch00002" if where == "batch" else ""
    )
    assert untimed(second.fit(options, tmp_path / "parts")) == untimed(expected)
    assert second.bits() == whole.bits()
    assert second.steps == list(range(kept + 1, 13))


def test_a_signal_that_is_passed_on_is_the_same_and_a_later_one_acts_as_ever(monkeypatch):
    """Slurm tells the trainer and torchrun, which tells the trainer again."""
    ended = []
    monkeypatch.setattr(state, "SIGNALS", (signal.SIGUSR1,))
    before = signal.signal(signal.SIGUSR1, lambda number, frame: ended.append(number))
    now = 100.0
    monkeypatch.setattr(state.time, "monotonic", lambda: now)
    try:
        stop = state.StopRequest()
        with stop.listening():
            signal.raise_signal(signal.SIGUSR1)
            assert stop.received
            now += state.PASSED_ON
            signal.raise_signal(signal.SIGUSR1)
            assert ended == []
            now += 0.1
            signal.raise_signal(signal.SIGUSR1)
            assert ended == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_checkpoints_come_at_steps_and_only_the_newest_and_the_best_stay(settings, tmp_path):
    toy = Toy(scores=[0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    toy.fit(with_checkpoints(settings, steps=2, keep=3), tmp_path / "state")
    assert checkpoints(tmp_path / "state") == [
        "step000000006-epoch00002",  # the best
        "step000000016",
        "step000000018",
        "step000000018-epoch00006",
    ]


def test_history_beside_the_checkpoints_has_each_step_once(settings, tmp_path):
    options = change(settings, log_steps=1)
    with pytest.raises(FloatingPointError):
        Toy(poison=8).fit(options, tmp_path / "state")
    path = tmp_path / "state/history.jsonl"
    assert [line["step"] for line in lines(path)][-1] == 7
    with path.open("a") as handle:
        handle.write('{"step": 8, "train_lo')  # a kill while writing
    Toy().fit(options, tmp_path / "state")
    found = [line["step"] for line in lines(path) if "epoch" not in line]
    assert found == list(range(1, 19))
    assert [line["epoch"] for line in lines(path) if "epoch" in line] == list(range(1, 7))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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
        toy.fit(settings, tmp_path / name, seed=seed, merit=None)
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
    toy.validate = lambda stop: seen.append(toy.bits()) or original(stop)
    toy.fit(settings, tmp_path / "state")
    assert toy.bits() == seen[2]
    assert toy.bits() != seen[5]


def test_the_last_weights_are_kept_where_nothing_is_better(settings, tmp_path):
    toy = Toy(scores=[0.9, 0.2, 0.1, 0.1, 0.1, 0.1])
    seen = []
    original = toy.validate
    toy.validate = lambda stop: seen.append(toy.bits()) or original(stop)
    toy.fit(settings, tmp_path / "state", merit=None)
    assert toy.bits() == seen[-1]


def test_patience_stops_after_epochs_without_a_better_one(settings, tmp_path):
    """Best at the second epoch, patience two: the fourth is the last, also after a resume."""
    scores = [0.1, 0.5, 0.5, 0.4, 0.9, 0.9]
    history = Toy(scores=scores).fit(settings, tmp_path / "state", patience=2)
    assert len(history) == 4
    again = Toy(scores=scores)
    assert again.fit(settings, tmp_path / "state", patience=2) == history
    assert again.steps == []


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_a_bad_loss_stops_keeps_the_checkpoint_before_and_names_the_cells(
    settings, tmp_path, value
):
    """The eighth step, the second of the third epoch; it is read at the epoch's end."""
    toy = Toy(poison=8)
    toy.poisoned_by = value
    with pytest.raises(FloatingPointError, match=r"the loss of step 8 \(epoch 3\).*learning_rate"):
        toy.fit(settings, tmp_path / "state")
    assert toy.validated == 2
    assert checkpoints(tmp_path / "state")[-1] == "step000000006-epoch00002"
    found = read_json(tmp_path / "state/failure.json")
    assert (found["step"], found["epoch"]) == (8, 3)
    rows = toy.plan(2)[1]
    assert [batch["cells"] for batch in found["batches"]] == [[f"cell{row}" for row in rows]]
    healed = Toy()
    assert len(healed.fit(settings, tmp_path / "state")) == 6
    assert all(torch.isfinite(weight).all() for weight in healed.model.parameters())


def test_a_loss_is_read_before_each_checkpoint(settings, tmp_path):
    """Or the checkpoint after the second step would hold weights that are NaN."""
    often = with_checkpoints(settings, steps=1)
    toy = Toy(poison=2)
    with pytest.raises(FloatingPointError, match="the loss of step 2"):
        toy.fit(often, tmp_path / "state")
    assert checkpoints(tmp_path / "state") == ["step000000001"]


def test_losses_are_read_at_intervals_only(settings, tmp_path, monkeypatch):
    """Each reading makes the CPU wait for a GPU: here after steps 5 and 10, and each epoch."""
    read = []
    original = PendingLosses.read

    def counted(pending_losses, state):
        if pending_losses.unread:
            read.append(state.step)
        return original(pending_losses, state)

    monkeypatch.setattr(PendingLosses, "read", counted)
    Toy().fit(change(settings, log_steps=5), tmp_path / "state")
    assert read == [3, 5, 6, 9, 10, 12, 15, 18]


def test_a_validation_that_is_not_finite_stops_as_well(settings, tmp_path):
    """The last step of an epoch can break the weights after its loss was still finite."""
    toy = Toy(scores=[0.5, math.nan, 0.5])
    with pytest.raises(FloatingPointError, match="validation_score of epoch 2 is nan"):
        toy.fit(settings, tmp_path / "state")
    assert checkpoints(tmp_path / "state") == ["step000000003-epoch00001"]


def test_weights_that_need_no_gradient_stay(settings, tmp_path):
    toy = Toy()
    toy.model[1].bias.requires_grad_(requires_grad=False)
    before = toy.model[1].bias.clone()
    toy.fit(settings, tmp_path / "state", merit=None)
    assert torch.equal(toy.model[1].bias, before)


def test_bf16_computes_in_bf16_and_keeps_weights_in_float32(settings, tmp_path):
    """On the CPU. Accelerate keeps one precision for a process, so its state is set back."""
    AcceleratorState._reset_state(reset_partial_state=True)
    toy, seen = Toy(), set()
    toy.model.register_forward_hook(lambda _, __, out: seen.add((toy.model.training, out.dtype)))
    try:
        history = toy.fit(change(settings, precision="bf16"), tmp_path / "state")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert (True, torch.bfloat16) in seen
    assert {weight.dtype for weight in toy.model.parameters()} == {torch.float32}
    assert history[-1]["train_loss"] < history[0]["train_loss"]


class Overheated(Toy):
    """Its loss explodes from the third epoch on, while the rate is above a limit."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.rates = limit, []

    def loss(self, model, batch):
        value, n_cells = super().loss(model, batch)
        return (value * 1e4 if self.epoch >= 2 and self.hot() else value), n_cells

    def hot(self):
        return self.peak / 2 ** self.setbacks() > self.limit

    def fit(self, settings, folder, **task):
        self.peak = settings.learning_rate
        self.setbacks = lambda: len(self.told())
        return super().fit(settings, folder, **task)


@pytest.fixture
def overheated(caplog):
    def make(limit):
        toy = Overheated(limit)
        toy.told = lambda: [line for line in caplog.messages if "times the learning rate" in line]
        return toy

    return make


def test_a_run_that_explodes_goes_back_and_on_with_a_lower_rate(settings, tmp_path, overheated):
    toy = overheated(limit=settings.learning_rate / 3)  # the second setback is enough
    history = toy.fit(settings, tmp_path / "state", setbacks=4)
    assert len(history) == 6
    assert [line["step"] for line in history] == [3, 6, 9, 12, 15, 18]
    assert len(toy.told()) == 2
    assert "continues after step 6 with 0.25 times the learning rate" in toy.told()[1]
    assert read_json(tmp_path / "state/step000000018-epoch00006/state.json")["setbacks"] == 2


def test_once_no_setback_is_left_the_best_epoch_is_the_result(
    settings, tmp_path, overheated, caplog
):
    toy = overheated(limit=0.0)
    history = toy.fit(settings, tmp_path / "state", setbacks=2)
    assert [line["epoch"] for line in history] == [1, 2]
    assert "is kept" in caplog.messages[-1]
    assert all(torch.isfinite(weight).all() for weight in toy.model.parameters())


def test_a_run_that_explodes_at_once_goes_back_to_where_it_began(settings, tmp_path):
    toy = Toy(poison=1)
    assert len(toy.fit(settings, tmp_path / "state", setbacks=1)) == 6
    with pytest.raises(FloatingPointError):
        Toy(poison=1).fit(settings, tmp_path / "other")
