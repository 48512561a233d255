"""What the reference takes from the code at each build: commands from typer, keys from pydantic."""

import ast
import difflib
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import typer
import yaml

from scbert.cli import app as commands
from scbert.config import Config, Section

ROOT = Path(__file__).parents[2]
LONGEST = 24  # letters of a default value; the whole one is in config.yaml
HTML = {"&": "&amp;", "<": "&lt;", "|": "\\|", "*": "\\*"}


def cell(text: str) -> str:
    """Return a text as it may stand in a cell of a Markdown table."""
    return "".join(HTML.get(letter, letter) for letter in " ".join(text.split()))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# Commands


def commands_text() -> str:
    """Return a section for each command: what it does, how it is called, its options."""
    group = typer.main.get_command(commands)
    return "\n".join(_command(name, one) for name, one in sorted(group.commands.items()))


def _command(name: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    needed = [f"{one.opts[0]} {one.name.upper()}" for one in options if one.required]
    words = ["scbert", name, *(_placeholder(one) for one in arguments), *needed]
    rows = [[f"`{_placeholder(one)}`", "", cell(one.help or "")] for one in arguments]
    rows += [
        [f"`{one.opts[0]}`", _default(one), cell(one.help or "")]
        for one in options
        if one.name != "help"
    ]
    text = inspect.cleandoc(command.help or "")
    usage = f"```text\n{' '.join(words)} [OPTIONS]\n```\n"
    return "\n".join(
        [f"## scbert {name}\n", text + "\n", usage, table(["", "default", "meaning"], rows)]
    )


def _placeholder(argument: Any) -> str:
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def _default(option: Any) -> str:
    if option.required:
        return "**needed**"
    if option.is_flag or option.default in (None, ""):
        return ""
    return f"`{getattr(option.default, 'value', option.default)}`"


def targets_text() -> str:
    """Return a table of the targets of make that the Makefile describes."""
    found = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return table(["", "what it does"], [[f"`make {name}`", cell(text)] for name, text in found])


# Configuration


def config_text() -> str:
    """Return a section for each part of the configuration, with every key."""
    values = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    notes = comments_of_yaml((ROOT / "config/config.yaml").read_text())
    schema = Config.model_json_schema()
    sections = {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if inspect.isclass(field.annotation) and issubclass(field.annotation, Section)
    }
    single = [key for key in Config.model_fields if key not in sections]
    rows = [_row(Config, (key,), values, notes, schema) for key in single]
    parts = ["## At the top\n", _table_of_keys(rows)]
    for name, section in sections.items():
        rows = _rows(section, (name,), values, notes, schema)
        parts += [f"## {name}\n", inspect.cleandoc(section.__doc__ or "") + "\n"]
        parts.append(_table_of_keys(rows))
    return "\n".join(parts)


def _table_of_keys(rows: list[list[str]]) -> str:
    return table(["key", "default", "what it takes, and means"], rows)


def _rows(section: Any, path: tuple[str, ...], *context: Any) -> list[list[str]]:
    rows = []
    for key, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        if inner is None:
            rows.append(_row(section, (*path, key), *context))
        else:
            rows += _rows(inner, (*path, key), *context)
    return rows


def _section_in(annotation: Any) -> Any:
    """Return the section that a key holds, also one that may be null; None for a plain value."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if inspect.isclass(one) and issubclass(one, Section):
            return one
    return None


def _row(
    section: Any, path: tuple[str, ...], values: Any, notes: dict[tuple[str, ...], str], schema: Any
) -> list[str]:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    owner = schema if section is Config else schema["$defs"][section.__name__]
    meaning = _without_repetition(comments_of_class(section).get(path[-1], ""), notes.get(path, ""))
    allowed = takes(owner["properties"][path[-1]], schema)
    name = ".".join(path[1:]) or path[0]
    return [
        f"`{name}`",
        f"`{_shown(values)}`",
        "<br>".join([f"*{cell(allowed)}*", *map(cell, meaning)]),
    ]


def _without_repetition(meaning: str, note: str) -> list[str]:
    """Return what is said of a key, but only the longer of two texts that say the same."""
    if difflib.SequenceMatcher(None, meaning, note).ratio() > 0.5:
        return [max(meaning, note, key=len)]
    return [text for text in (meaning, note) if text]


def _shown(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    text = text.strip().removesuffix("...").strip().replace("|", "\\|")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def takes(found: dict[str, Any], schema: Any) -> str:
    """Say in words which values a part of the JSON schema allows."""
    if "$ref" in found:
        return takes(schema["$defs"][found["$ref"].split("/")[-1]], schema)
    if "anyOf" in found:
        return " or ".join(takes(one, schema) for one in found["anyOf"])
    if "enum" in found:
        return ", ".join(found["enum"])
    if "const" in found:
        return str(found["const"])
    kinds = {"integer": "whole number", "number": "number", "boolean": "true, false"}
    kinds |= {"string": "text", "null": "null", "object": "table"}
    if found.get("type") == "array":
        inner = found.get("items") or next(iter(found.get("prefixItems", [])), {"type": "string"})
        return f"list of {takes(inner, schema)}"
    return " ".join([kinds[found.get("type", "object")], *_bounds(found)])


def _bounds(found: dict[str, Any]) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {found[key]:,}" for key, sign in signs.items() if key in found]


def comments_of_class(section: Any) -> dict[str, str]:
    """Return what stands behind each key in the source of a section."""
    source = textwrap.dedent(inspect.getsource(section))
    lines = source.splitlines()
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    return {
        node.target.id: lines[node.end_lineno - 1].partition("  # ")[2]
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def comments_of_yaml(text: str) -> dict[tuple[str, ...], str]:
    """Return what stands behind each key of a YAML file: units and sources."""
    path: list[tuple[int, str]] = []
    found = {}
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):", line)
        if key is None:
            continue
        depth = len(key[1])
        path = [one for one in path if one[0] < depth] + [(depth, key[2])]
        found[tuple(name for _, name in path)] = line.partition(" # ")[2].strip()
    return found


# Docstrings


def returns(app: Any, what: str, name: str, one: Any, options: Any, lines: list[str]) -> None:
    """Let the part Returns be text: our docstrings have no types there, which napoleon expects."""
    lines[:] = ["Gives back" if line == "Returns" else line for line in lines]
    lines[:] = [
        "-" * len("Gives back") if lines[number - 1] == "Gives back" else line
        for number, line in enumerate(lines)
    ]


MADE = {
    "reference/commands": {"commands": commands_text, "targets": targets_text},
    "reference/config": {"keys": config_text},
}


def fill(app: Any, page: str, source: list[str]) -> None:
    """Put what is made in the place of its marks."""
    for mark, make in MADE.get(page, {}).items():
        head, mark_line, tail = source[0].partition(f"<!-- made: {mark} -->")
        assert mark_line, f"{page}.md has no place for {mark}"
        source[0] = head + make() + tail


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", returns, priority=1)  # before napoleon
    app.connect("env-get-outdated", lambda *_: [*MADE, "reference/python"])
    return {"parallel_read_safe": True}
