"""Every command that the documentation shows: it is run, or says why not, and it exists."""

import re
import shlex

import pytest
import typer

from scbert.cli import app
from tests.docs.pages import HISTORY, ROOT, RUN, TAG, TEXT, blocks, commands_in_text, pages

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
CARDS = [str(path.relative_to(ROOT)) for path in ROOT.glob("scbert/shipped/*/README.md")]
NOW = [page for page in PAGES if not page.startswith(HISTORY)]
COMMANDS = typer.main.get_command(app).commands
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
OURS = re.compile(r"(config|scripts|benchmarks|tests)/")
PLACEHOLDER = re.compile(r"[A-Z0-9_]+(\.\w+)*|.*\.\.\..*")  # QUERY.h5ad


def shown():
    """Single commands: lines of blocks, and code in sentences."""
    lines = [
        (block.place, line)
        for block in BLOCKS
        if block.language == "bash" and block.page in NOW
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    of_cards = [(block.place, block.text) for card in CARDS for block in blocks(card)]
    sentences = [(page, code) for page in [*NOW, *CARDS] for code in commands_in_text(page)]
    return lines + of_cards + sentences


def words(line):
    """Words of a line; none if it is no command by itself."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_its_language_and_why_it_is_not_run(block):
    assert block.language in {*RUN, *TEXT}, "name a language: bash, python, text, yaml, ..."
    if block.tag == "not run":
        assert len(block.about.split()) > 2, "say why"
    if block.tag == "output":
        assert block.language == "text"
    if block.tag == "run by":
        program = (ROOT / block.about).read_text().splitlines()
        assert [line for line in block.text.splitlines() if line not in program] == []


def test_tags_stand_before_a_block_and_are_spelled_right():
    for page in PAGES:
        tags = re.findall(r"^ *(<!-- (?:not|run|plan|output).*)$", (ROOT / page).read_text(), re.M)
        assert all(TAG.fullmatch(tag) for tag in tags), page
        used = sum(bool(block.tag) for block in BLOCKS if block.page == page)
        assert used == len(tags), page


def test_commands_of_scbert_and_their_options_exist():
    seen = 0
    for place, line in shown():
        match words(line):
            case ["scbert", name, *rest] if not re.match("-|COMMAND", name):
                assert name in COMMANDS, (place, line)
                known = {option for one in COMMANDS[name].params for option in one.opts}
                given = {word for word in rest if word.startswith("--")}
                assert given <= known | {"--help"}, (place, line)
                seen += 1
    assert seen > 20


def test_targets_of_make_exist():
    for place, line in shown():
        match words(line):
            case ["make", *rest]:
                targets = {word for word in rest if "=" not in word}
                assert targets <= TARGETS, (place, line)


def test_files_that_commands_name_exist():
    for place, line in shown():
        match words(line):
            case ["snakemake" | "python" | "python3", *rest]:
                for word in filter(OURS.match, rest):
                    assert PLACEHOLDER.search(word) or (ROOT / word).exists(), (place, line)
