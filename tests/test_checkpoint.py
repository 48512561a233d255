import shutil

import pytest
import torch
from torch import nn

from scbert.training.checkpoint import Checkpoint, differences, load_checkpoint, save_checkpoint

IDENTITY = {"seed": 1, "network": {"dim": 16, "hidden": [8]}}


def model_and_optimizer(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def take_step(model, optimizer):
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def save_epochs(folder, n_epochs):
    """Train and save some epochs; return what was saved last."""
    model, optimizer = model_and_optimizer()
    state = Checkpoint()
    for epoch in range(1, n_epochs + 1):
        take_step(model, optimizer)
        state.step += 1
        state.add({"epoch": epoch, "f1": 1.0 / epoch}, model, "f1")
        save_checkpoint(folder, state, model, optimizer, IDENTITY)
    return state, model, optimizer


def test_add_keeps_the_first_of_the_best_epochs():
    state = Checkpoint()
    model, _ = model_and_optimizer()
    for number, score in enumerate([0.2, 0.7, 0.7, 0.1]):
        with torch.no_grad():
            model.bias.fill_(number)
        state.add({"f1": score}, model, "f1")
    assert (state.best_epoch, state.epochs_done, state.epochs_since_best("f1")) == (2, 4, 2)
    state.restore_best(model)
    assert model.bias.tolist() == [1.0, 1.0]


def test_without_a_score_nothing_is_best():
    state = Checkpoint()
    model, _ = model_and_optimizer()
    state.add({"f1": 0.2}, model, None)
    assert (state.best, state.epochs_since_best(None)) == (None, 0)
    before = model.bias.tolist()
    state.restore_best(model)
    assert model.bias.tolist() == before


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    state, model, optimizer = save_epochs(tmp_path / "state", 3)
    other, its_optimizer = model_and_optimizer(seed=5)
    found = load_checkpoint(tmp_path / "state", other, its_optimizer, IDENTITY)
    assert (found.step, found.best_epoch, found.history) == (3, 1, state.history)
    assert all(torch.equal(found.best[key], value) for key, value in state.best.items())
    for _ in range(2):  # the moments are right if the next steps are
        assert torch.equal(model.weight, other.weight)
        take_step(model, optimizer)
        take_step(other, its_optimizer)
    assert torch.equal(model.weight, other.weight)


def test_there_is_nothing_to_load_at_first(tmp_path):
    assert load_checkpoint(tmp_path / "none", *model_and_optimizer(), IDENTITY) is None


def test_only_the_newest_epoch_stays(tmp_path):
    save_epochs(tmp_path / "state", 11)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["epoch00011"]


def test_nothing_is_pickled(tmp_path):
    save_epochs(tmp_path / "state", 1)
    names = {path.name for path in (tmp_path / "state/epoch00001").iterdir()}
    expected = {"weights", "optimizer", "best"}
    assert names == {"state.json", *(f"{name}.safetensors" for name in expected)}


class Killed(BaseException):
    """Not an Exception: nothing must catch it."""


@pytest.mark.parametrize(
    ("where", "epochs_found"),
    [
        ("scbert.training.checkpoint.save_file", 2),  # while the third is written
        ("scbert.training.checkpoint.write_json", 2),
        ("scbert.files.Path.replace", 2),  # before it is put in place
        ("scbert.training.checkpoint._complete", 3),  # before the second is deleted
    ],
)
def test_a_kill_at_any_moment_leaves_a_complete_epoch(tmp_path, monkeypatch, where, epochs_found):
    folder = tmp_path / "state"
    state, model, optimizer = save_epochs(folder, 2)
    take_step(model, optimizer)
    state.add({"epoch": 3, "f1": 0.0}, model, "f1")

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(
            "scbert.files.shutil.rmtree", lambda *_, **__: None
        )  # a kill cleans nothing
        patched.setattr(where, killed)
        with pytest.raises(Killed):
            save_checkpoint(folder, state, model, optimizer, IDENTITY)
    found = load_checkpoint(folder, *model_and_optimizer(5), IDENTITY)
    assert found.epochs_done == epochs_found
    save_checkpoint(folder, state, model, optimizer, IDENTITY)
    assert [path.name for path in folder.iterdir()] == ["epoch00003"]  # and no rest stays


def test_foreign_files_in_the_folder_stay(tmp_path):
    notes = tmp_path / "state/notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    save_epochs(tmp_path / "state", 2)
    assert notes.read_text() == "mine"


def test_another_run_is_refused_by_the_names_that_differ(tmp_path):
    save_epochs(tmp_path / "state", 1)
    other = {"seed": 2, "network": {"dim": 16, "hidden": [9]}, "new": 1}
    model, optimizer = model_and_optimizer(5)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"these differ: network\.hidden, new, seed\. Restore"):
        load_checkpoint(tmp_path / "state", model, optimizer, other)
    assert torch.equal(model.weight, before)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    save_epochs(tmp_path / "state", 1)
    (tmp_path / "state/epoch00001/state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is not valid JSON"):
        load_checkpoint(tmp_path / "state", *model_and_optimizer(), IDENTITY)


def test_a_deleted_folder_starts_anew(tmp_path):
    save_epochs(tmp_path / "state", 1)
    shutil.rmtree(tmp_path / "state")
    assert load_checkpoint(tmp_path / "state", *model_and_optimizer(), IDENTITY) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c"]),
        ({"a": 1}, {"b": 1}, ["a", "b"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
    ],
)
def test_differences_names_what_differs(first, second, expected):
    assert differences(first, second) == expected
