import resource
import shutil
from operator import itemgetter

import pytest
import torch
from torch import nn

from scbert.files import read_json, sha256_of, write_json
from scbert.training.checkpoint import (
    _delete_older,
    differences,
    read_best,
    read_checkpoint,
    restore,
    save_checkpoint,
    tidy,
)
from scbert.training.progress import append_line, truncate_lines
from scbert.training.state import Checkpoint, Sums

IDENTITY = {"seed": 1, "network": {"dim": 16, "hidden": [8]}}


def model_and_optimizer(seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def take_step(model, optimizer):
    model(torch.ones(1, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def load_checkpoint(folder, model, optimizer, identity):
    """As the loop does."""
    found = read_checkpoint(folder, identity)
    if found is None:
        return None
    restore(found.tensors, model, optimizer)
    return found.state


def save_epochs(folder, n_epochs, keep=1, scores=None):
    """Train and save some epochs of one step; return what was saved last."""
    model, optimizer = model_and_optimizer()
    state = Checkpoint()
    for epoch in range(1, n_epochs + 1):
        take_step(model, optimizer)
        state.step += 1
        score = scores[epoch - 1] if scores else epoch
        state.add({"epoch": epoch, "step": state.step, "f1": score}, itemgetter("f1"))
        save_checkpoint(folder, state, model, optimizer, IDENTITY, keep)
    return state, model, optimizer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def end_of(epoch):
    return f"step{epoch:09d}-epoch{epoch:05d}"


def test_add_keeps_the_first_of_the_best_epochs():
    state = Checkpoint()
    for epoch, score in enumerate([0.2, 0.7, 0.7, 0.1], start=1):
        state.add({"epoch": epoch, "step": 10 * epoch, "f1": score}, itemgetter("f1"))
    assert (state.best_epoch, state.epochs_done) == (2, 4)
    assert state.epochs_since_best(itemgetter("f1")) == 2
    assert state.best_name == "step000000020-epoch00002"


def test_without_a_score_nothing_is_best(tmp_path):
    state = Checkpoint()
    state.add({"epoch": 1, "step": 1, "f1": 0.2}, None)
    assert (state.best_name, state.epochs_since_best(None)) == (None, 0)
    assert read_best(tmp_path, state) is None


def test_names_ascend_within_an_epoch_and_over_its_end():
    state = Checkpoint()
    found = [state.name]
    state.step, state.batches_done = 1, 8
    found.append(state.name)
    state.add({"epoch": 1, "step": 1}, None)
    found.append(state.name)
    state.step, state.batches_done = 2, 8
    found.append(state.name)
    expected = ["step000000000", "step000000001", "step000000001-epoch00001", "step000000002"]
    assert found == sorted(found) == expected


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    state, model, optimizer = save_epochs(tmp_path / "state", 3, scores=[3, 2, 1])
    state.step, state.batches_done, state.first_loss = 4, 7, 1 / 3
    state.sums = Sums(loss=0.1 + 0.2, items=3.0, cells=4, tokens=5, seconds=0.7, waited=0.1)
    save_checkpoint(tmp_path / "state", state, model, optimizer, IDENTITY, 1)
    other, its_optimizer = model_and_optimizer(seed=5)
    assert load_checkpoint(tmp_path / "state", other, its_optimizer, IDENTITY) == state
    for _ in range(2):  # the moments are right if the next steps are
        assert torch.equal(model.weight, other.weight)
        take_step(model, optimizer)
        take_step(other, its_optimizer)
    assert torch.equal(model.weight, other.weight)


def test_a_checkpoint_from_before_operations_were_counted_is_read(tmp_path):
    save_epochs(tmp_path / "state", 1)
    newest = max((tmp_path / "state").glob("step*"))
    content = read_json(newest / "state.json")
    del content["sums"]["flop"]
    write_json(newest / "state.json", content)
    assert load_checkpoint(tmp_path / "state", *model_and_optimizer(), IDENTITY).sums.flop == 0


def test_the_best_weights_come_back(tmp_path):
    save_epochs(tmp_path / "one", 1)
    state, model, _ = save_epochs(tmp_path / "state", 3, scores=[3, 2, 1])
    first = model_and_optimizer(5)
    load_checkpoint(tmp_path / "one", *first, IDENTITY)
    model.load_state_dict(read_best(tmp_path / "state", state))
    assert torch.equal(model.weight, first[0].weight)


def test_there_is_nothing_to_load_at_first(tmp_path):
    tidy(tmp_path / "none")
    assert load_checkpoint(tmp_path / "none", *model_and_optimizer(), IDENTITY) is None


def test_the_newest_epochs_and_the_best_stay(tmp_path):
    save_epochs(tmp_path / "state", 11, keep=2, scores=[1, 9, *[0] * 9])
    assert names(tmp_path / "state") == [end_of(2), end_of(10), end_of(11)]


def test_nothing_is_pickled(tmp_path):
    save_epochs(tmp_path / "state", 1)
    expected = ["manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]
    assert names(tmp_path / "state" / end_of(1)) == expected


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(tmp_path, caplog, file):
    folder = tmp_path / "state"
    save_epochs(folder, 3, keep=2)
    content = bytearray((folder / end_of(3) / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / end_of(3) / file).write_bytes(content)
    tidy(folder)
    found = load_checkpoint(folder, *model_and_optimizer(5), IDENTITY)
    assert found.epochs_done == 2
    assert names(folder) == [f"damaged-{end_of(3)}", end_of(2)]
    assert f"the SHA-256 of {end_of(3)}/{file} differs" in caplog.text
    assert "the one before it is used" in caplog.text


@pytest.mark.parametrize(
    "changed", [{"step": None}, {"best_epoch": 9}, {"recent_loss": "x"}, {"history": [1]}]
)
def test_a_state_that_makes_no_sense_is_damage_whatever_its_checksum(tmp_path, changed):
    folder = tmp_path / "state"
    save_epochs(folder, 2, keep=2)
    newest = folder / end_of(2)
    write_json(newest / "state.json", read_json(newest / "state.json") | changed)
    sums = read_json(newest / "manifest.json") | {"state.json": sha256_of(newest / "state.json")}
    write_json(newest / "manifest.json", sums)
    tidy(folder)
    assert names(folder) == [f"damaged-{end_of(2)}", end_of(1)]


def test_a_checkpoint_whose_best_epoch_is_damaged_is_not_used(tmp_path):
    """The second epoch is the best of three; without it, only the first knows its own best."""
    folder = tmp_path / "state"
    save_epochs(folder, 3, keep=3, scores=[1, 3, 2])
    (folder / end_of(2) / "weights.safetensors").unlink()
    tidy(folder)
    assert names(folder) == [f"damaged-{end_of(n)}" for n in (2, 3)] + [end_of(1)]


def test_only_damaged_checkpoints_stop_the_run_and_stay(tmp_path):
    folder = tmp_path / "state"
    save_epochs(folder, 2, keep=2)
    for epoch in (1, 2):
        (folder / end_of(epoch) / "manifest.json").write_text("{")
    before = names(folder)
    with pytest.raises(ValueError, match=r"none of the 2 checkpoint\(s\).*is not valid JSON"):
        tidy(folder)
    assert names(folder) == before


@pytest.mark.parametrize("largest", [0, 50, 250])
def test_a_disk_that_takes_no_more_leaves_the_checkpoint_before_intact(tmp_path, largest):
    """The system itself refuses: no file of this process may grow beyond so many bytes."""
    folder = tmp_path / "state"
    state, model, optimizer = save_epochs(folder, 1)
    state.step, state.batches_done = 2, 3
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises(ValueError, match=r"of step 2 could not be written.*Free space"):
            save_checkpoint(folder, state, model, optimizer, IDENTITY, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(folder) == [end_of(1)]
    assert load_checkpoint(folder, *model_and_optimizer(5), IDENTITY).step == 1


class Killed(BaseException):
    """Not an Exception: nothing must catch it."""


@pytest.mark.parametrize(
    ("where", "epochs_found"),
    [
        ("scbert.training.checkpoint.save_file", 2),  # while the third is written
        ("scbert.training.checkpoint.write_json", 2),
        ("scbert.files.Path.replace", 2),  # before it is put in place
        ("scbert.training.checkpoint._delete_older", 3),  # before the first is deleted
    ],
)
def test_a_kill_at_any_moment_leaves_a_complete_epoch(tmp_path, monkeypatch, where, epochs_found):
    folder = tmp_path / "state"
    state, model, optimizer = save_epochs(folder, 2)
    take_step(model, optimizer)
    state.step = 3
    state.add({"epoch": 3, "step": 3, "f1": 9.0}, itemgetter("f1"))

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(
            "scbert.files.shutil.rmtree", lambda *_, **__: None
        )  # a kill cleans nothing
        patched.setattr(where, killed)
        with pytest.raises(Killed):
            save_checkpoint(folder, state, model, optimizer, IDENTITY, 1)
    tidy(folder)
    found = load_checkpoint(folder, *model_and_optimizer(5), IDENTITY)
    assert found.epochs_done == epochs_found
    save_checkpoint(folder, state, model, optimizer, IDENTITY, 1)
    _delete_older(folder, 1, state.best_name)
    assert names(folder) == [end_of(3)]  # and no rest stays


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


def test_truncate_lines_takes_out_what_will_be_done_again(tmp_path):
    path = tmp_path / "history.jsonl"
    for step in (1, 2, 3):
        append_line(path, {"step": step})
    with path.open("a") as handle:
        handle.write('{"step"')  # cut off by a kill
    truncate_lines(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    truncate_lines(tmp_path / "none", 2)


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
