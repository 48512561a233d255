"""One way of talking: time, level, message, on standard error."""

import logging
import sys
from types import TracebackType


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
    """Show a user's error (ValueError, missing file) without a traceback; others keep it."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, ValueError | FileNotFoundError):
            logging.getLogger("scbert").debug("traceback", exc_info=(kind, error, trace))
            sys.stderr.write(f"ERROR: {error}\n")
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = show
