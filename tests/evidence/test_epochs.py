"""The epoch that is kept."""

from scbert.evidence.epochs import best_epoch


def record(epoch, macro_f1, loss, **more):
    return {"epoch": epoch, "validation_macro_f1": macro_f1, "validation_loss": loss, **more}


def test_best_epoch_has_the_highest_macro_f1():
    history = [record(1, 0.7, 0.1), record(2, 0.9, 0.5), record(3, 0.8, 0.2)]
    assert best_epoch(history)["epoch"] == 2


def test_best_epoch_of_equals_has_the_least_loss():
    history = [record(1, 1.0, 0.09), record(2, 1.0, 0.02), record(3, 1.0, 0.02)]
    assert best_epoch(history)["epoch"] == 2
