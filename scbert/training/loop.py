"""The training loop: epochs, checkpoints, history.

Plain torch, with accelerate for precision and processes. Everything random follows from the
seed, the number of the epoch and the number of the batch in it. So a run that was stopped after any
optimizer step continues there and ends, on a CPU, with the same bits (on a GPU sums have no fixed
order), and several processes do what one does, but for the order of sums.
"""

import logging
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from scbert.config import Optimizer
from scbert.training.checkpoint import tidy
from scbert.training.lock import only_trainer
from scbert.training.processes import together
from scbert.training.state import Numbers, Stopping, Task
from scbert.training.trainer import SETBACK, Trainer

log = logging.getLogger(__name__)
EXIT_STOPPED = 143  # 128 + SIGTERM, as shells say it


def fit(
    task: Task, settings: Optimizer, seed: int, accelerator: Accelerator, checkpoint: Path
) -> list[Numbers]:
    """Train, and leave the best (or last) weights in `task.model`.

    Parameters
    ----------
    checkpoint
        Folder for the state; if it holds one of the same task, training continues there.

    Returns
    -------
    The history: the numbers of each epoch.

    Raises
    ------
    ValueError
        If the checkpoint belongs to other settings or data, another trainer uses the folder, or a
        checkpoint cannot be written.
    FloatingPointError
        If the loss, a gradient or a number of the validation is no longer finite, or the loss
        explodes, and no setback of the task is left; the last checkpoint stays, and failure.json
        beside it names the cells.
    SystemExit
        If the run was told to stop (SIGTERM, Ctrl-C), after writing a checkpoint.
    """
    first = accelerator.is_main_process
    with ExitStack() as stack:
        together(lambda: stack.enter_context(only_trainer(checkpoint)), mine=first)
        together(partial(tidy, checkpoint), mine=first)
        trainer = Trainer(task, settings, seed, accelerator, folder=checkpoint)
        with trainer.stop.listening():
            try:
                _train(trainer)
            except Stopping:
                trainer.save()
                log.warning(
                    "told to stop: step %d is kept in %s, and the same command continues there",
                    *(trainer.state.step, checkpoint),
                )
                raise SystemExit(EXIT_STOPPED) from None
        trainer.take_best()
    return trainer.state.history


def _train(trainer: Trainer) -> None:
    """Train; what explodes goes back and on with half the learning rate, as often as the task says.

    Once no setback is left, the best epoch so far is the result, if there is any.
    """
    state, most = trainer.state, trainer.task.setbacks
    if most and not state.step:
        trainer.save()  # what the first setback may go back to
    while True:
        try:
            trainer.run()
        except FloatingPointError as error:
            state = trainer.state
            if state.setbacks < most:
                step, share = trainer.go_back(), SETBACK**trainer.state.setbacks
                log.warning(
                    "%s Training now continues after step %d with %g times the learning rate.",
                    *(error, step, share),
                )
                continue
            if not (most and state.best_epoch):
                raise
            log.warning("%s The best epoch so far, %d, is kept.", error, state.best_epoch)
        return
