"""The pages of the documentation, and the commands in them.

A block of bash or python is run by run_pages.py, unless the line before it says otherwise:

    <!-- not run: why -->
    <!-- run by FILE -->      each of its lines stands in FILE too, such as .ci/run
    <!-- plan -->             Snakemake is asked only what it would do

A text block after <!-- output --> is what the block before it prints; "..." stands for anything.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = ("bash", "python")
TEXT = {"text", "yaml", "tsv", "snakemake", "r"}
TAG = re.compile(r"<!-- (not run|run by|plan|output)(?::? (.*?))? -->")
HISTORY = ("docs/results/", "docs/decisions/", "CHANGELOG.md")  # also of what is no longer there


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    tag: str  # not run, run by, plan, output, or nothing
    about: str  # the reason, or the file

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return the Markdown files that people read, as paths from the root."""
    found = (str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.md"))
    site = (page for page in found if not page.startswith("docs/_build/"))
    return sorted(["README.md", "CONTRIBUTING.md", *site])


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page; directives of the site, such as {toctree}, are none."""
    found, before, opened = [], "", None
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        fence = re.match(r" *(`{3,}|:{3,})(.*)", line)
        if opened:
            if fence and fence[1] == opened[0] and not fence[2].strip():
                found.append(_block(page, *opened[1:]))
                opened, before = None, ""
            else:
                opened[4].append(line)
        elif fence and fence[1].startswith("`"):
            opened = (fence[1], number, fence[2].strip(), before, [])
        elif line.strip():
            before = line.strip()
    return [block for block in found if not block.language.startswith("{")]


def _block(page: str, line: int, language: str, before: str, lines: list[str]) -> Block:
    tag = TAG.fullmatch(before)
    name, about = (tag[1], tag[2] or "") if tag else ("", "")
    return Block(page, line, language, "\n".join(lines), name, about)


def commands_in_text(page: str) -> list[str]:
    """Return the commands that stand in the sentences and tables of a page, in backticks."""
    text = re.sub(r"^ *```.*?^ *```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [code for code in re.findall(r"`([^`]+)`", text) if " " in code.strip()]
