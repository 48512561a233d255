"""Tables of the benchmark's page: each can be sorted and downloaded, whatever it holds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from scbert.report.text import NOTHING, signed

INK, PAPER = "#000000", "#ffffff"
LIGHT, DARK = (255, 255, 255), (0, 74, 122)  # the shades of 0 and 1
HATCHED, MARKED = "failed", "partly"  # classes of a cell


@dataclass(frozen=True)
class Cell:
    """What stands in a table: `text`, under it `small`.

    `value` is what it is sorted by and what a download holds; without one, that is the text.
    `shade` from 0 to 1 colours it, `look` is a class of the page, `note` says what is the matter.
    """

    text: str
    value: float | None = None
    small: str = ""
    shade: float | None = None
    look: str = ""
    note: str = ""

    @property
    def style(self) -> str:
        """The colours of a shaded cell."""
        return "" if self.shade is None else shaded(self.shade)

    @property
    def sorted_by(self) -> str:
        """The number, or else the text."""
        return self.text if self.value is None else f"{self.value:.6g}"

    @property
    def downloaded(self) -> str:
        """The same, but empty where there is no number, and a failure with its reason."""
        if self.note:
            return f"{self.sorted_by} ({self.note})"
        return "" if self.text == NOTHING else self.sorted_by


@dataclass(frozen=True)
class ColumnHead:
    """The head of a column: its name, whether it holds numbers, and what it means."""

    text: str
    number: bool = True
    meaning: str = ""
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page; `name` is part of its id and the name of its download."""

    name: str
    caption: str
    heads: Sequence[ColumnHead]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    looks: Sequence[str] = field(default_factory=list)  # a class for each row, or none
    kind: str = ""  # a class of the table


def words(text: object) -> Cell:
    """Return a cell of text."""
    return Cell(str(text))


def number(value: float | None, form: str = "{:.3f}") -> Cell:
    """Return a cell with a number; a dash where there is none."""
    if value is None or math.isnan(value):
        return Cell(NOTHING)
    return Cell(form.format(value).replace("-", "\N{MINUS SIGN}"), float(value))


def marked(cell: Cell, note: str) -> Cell:
    """Return a cell marked with what it lacks, or as it is if it lacks nothing."""
    return replace(cell, note=note, look=MARKED) if note else cell


def with_interval(value: float, low: float, high: float) -> Cell:
    """Return a score with its interval, if it has one."""
    if math.isnan(value):
        return Cell(NOTHING)
    ends = "" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return Cell(f"{value:.3f}", value, small=ends)


def difference(value: float, low: float, high: float) -> Cell:
    """Return a difference with its sign, and its interval if it has one."""
    if math.isnan(value):
        return Cell(NOTHING)
    ends = "" if math.isnan(low) else f"{signed(low)} to {signed(high)}"
    return Cell(signed(value), value, small=ends)


def chance(p: float | None) -> Cell:
    """Return a p, of which very small ones are not zero."""
    if p is not None and p < 0.001:
        return Cell("< 0.001", p)
    return number(p)


def heads(names: Iterable[str], texts: int = 1) -> list[ColumnHead]:
    """Return heads of which the first so many are of text and the others of numbers."""
    return [ColumnHead(name, number=place >= texts) for place, name in enumerate(names)]


def shaded(share: float) -> str:
    """Return the colours of a cell: from white to dark blue, and text that can be read on it."""
    share = min(max(share, 0.0), 1.0)
    rgb = [round(a + (b - a) * share) for a, b in zip(LIGHT, DARK, strict=True)]
    ink = INK if contrast(rgb, (0, 0, 0)) > contrast(rgb, (255, 255, 255)) else PAPER
    return f"background-color:#{rgb[0]:02x}{rgb[1]:02x}{rgb[2]:02x};color:{ink}"


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the contrast of two colours as WCAG 2 defines it, from 1 to 21."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(rgb: Sequence[int]) -> float:
    parts = [value / 255 for value in rgb]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
