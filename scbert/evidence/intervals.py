"""A score with its interval, as tables of text show it."""

from collections.abc import Mapping
from typing import Literal


def with_interval(value: float, ends: Mapping[str, float], sign: Literal["", "+"] = "") -> str:
    """Return a score, or with sign + a difference of scores, and its interval.

    Parameters
    ----------
    value
        The score or the difference.
    ends
        Its "low" and "high"; further keys are not used.
    sign
        Of a difference, whose ends may be negative, so that no dash can stand between them.
    """
    between = " to " if sign else "-"
    return f"{value:{sign}.3f} ({ends['low']:{sign}.3f}{between}{ends['high']:{sign}.3f})"
