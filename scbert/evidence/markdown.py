"""Tables in Markdown, whatever the cell types are called."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Return a table; the last columns, so many, hold numbers and stand right."""
    right = len(header) - numbers
    rule = ["---" if place < right else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *rows])


def plain(name: object) -> str:
    """Write a name that cannot end a cell of a table, nor be read as HTML."""
    text = " ".join(str(name).split()).replace("|", "\\|")
    return text.replace("&", "&amp;").replace("<", "&lt;")
