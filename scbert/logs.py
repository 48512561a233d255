"""One way of talking: time, level, message, on standard error; and of ending."""

import logging
import signal
import sys
import threading
from types import FrameType, TracebackType


def start_logging() -> None:
    """Log to standard error, from INFO upwards for scbert and from WARNING for libraries."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("scbert").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def explain_user_errors() -> None:
    """Show a user's error without a traceback; others keep it.

    Those are ValueError, a missing file, and a training that explodes.
    """

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, ValueError | FileNotFoundError | FloatingPointError):
            logging.getLogger("scbert").debug("traceback", exc_info=(kind, error, trace))
            sys.stderr.write(f"ERROR: {error}\n")
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = show


def end_when_told() -> None:
    """Let SIGTERM end a step or command as an error does: what it was writing is removed first.

    So does SIGHUP, of a terminal that is gone, unless nohup has it ignored. The exit code is 143
    (129), as shells say it. The training loop listens by itself while it runs. What
    is told again, by Slurm and by torchrun, must not break off the clean-up.
    """

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.SIG_IGN)
        logging.getLogger("scbert").warning(
            "told to stop: no file is left half-written; give the same command again"
        )
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        signal.signal(signal.SIGTERM, end)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, end)
