"""Write the schema of config.yaml and the table of its settings: python -m scbert.schema FOLDER."""

import re
import sys
from pathlib import Path
from typing import Any, Literal, TypedDict

import yaml

from scbert.config import Config
from scbert.config.load import default_config_file
from scbert.files import write_text

MADE = "Made by `make schema` from scbert/config/ and config/config.yaml: do not edit."
BEGIN, END = f"<!-- {MADE} -->\n", "<!-- end -->\n"


Bound = Literal["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"]
BOUNDS: dict[Bound, str] = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}


class Setting(TypedDict, total=False):
    """The JSON schema of a setting; of a section its `properties`."""

    properties: dict[str, "Setting"]
    description: str
    default: object  # its value in config.yaml
    type: str
    enum: list[str]
    anyOf: list["Setting"]
    items: "Setting"
    minimum: float
    exclusiveMinimum: float
    maximum: float
    exclusiveMaximum: float


def schema() -> Setting:
    """Return the JSON schema of the configuration, with the values and comments of config.yaml."""
    whole = Config.model_json_schema()
    parts = whole.pop("$defs")

    def resolved(node: Any) -> Any:
        """Put each part where it is used: catalogues do not follow references."""
        if isinstance(node, list):
            return [resolved(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(parts[node["$ref"].rpartition("/")[2]])
        kept = (key for key in node if not (key == "title" and isinstance(node[key], str)))
        return {key: resolved(node[key]) for key in kept}

    whole = resolved(whole)
    text = default_config_file().read_text()
    written = yaml.compose(text)
    assert isinstance(written, yaml.MappingNode)
    _describe(whole, written, yaml.safe_load(text), text.splitlines())
    return whole


def _describe(node: Setting, written: yaml.MappingNode, values: Any, lines: list[str]) -> None:
    """Add to each key its value and the comment on its line of config.yaml."""
    for key, value in written.value:
        inner = node["properties"][key.value]
        comment = re.search(r"(?<=\S)\s+# (.*)$", lines[key.start_mark.line])
        if comment and "description" not in inner:
            inner["description"] = comment[1]
        if "properties" in inner:
            _describe(inner, value, values[key.value], lines)
        else:
            inner["default"] = values[key.value]


def schema_text() -> str:
    """Return the schema as YAML."""
    return f"# {MADE}\n" + yaml.safe_dump(schema(), sort_keys=False, width=100)


def table_text() -> str:
    """Return one table per section: each setting, what it takes, its value and what it is."""
    rest = "| setting | takes | default | what |\n|---|---|---|---|\n"
    text, sections = "", schema()["properties"]
    single = {name: node for name, node in sections.items() if "properties" not in node}
    text += rest + "".join(_rows(single, ""))
    for name, node in sections.items():
        if name not in single:
            text += f"\n### {name}\n{_cell(node['description'])}\n\n"
            text += rest + "".join(_rows(node["properties"], ""))
    return text


def _rows(properties: dict[str, Setting], above: str) -> list[str]:
    """Return a line for each setting, those within others with the path to them."""
    rows = []
    for name, node in properties.items():
        if "properties" in node:
            rows += _rows(node["properties"], f"{above}{name}.")
        else:
            value = yaml.safe_dump(node["default"], default_flow_style=True, width=10_000)
            value = value.removesuffix("...\n").strip()
            value = f"`{value}`" if len(value) < 90 else "see config.yaml"
            cells = [f"`{above}{name}`", _takes(node), value, node.get("description", "")]
            rows.append("| " + " | ".join(_cell(each) for each in cells) + " |\n")
    return rows


def _takes(node: Setting) -> str:
    """Return in words what a setting may be."""
    if "anyOf" in node:
        return " or ".join(_takes(each) for each in node["anyOf"])
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    kind = {
        "integer": "whole number",
        "string": "text",
        "null": "`null`",
        "boolean": "`true`, `false`",
        "object": "names and values",
    }
    if node.get("type") == "array":
        return f"list of: {_takes(node['items'])}" if node.get("items") else "list"
    bounds = [f"{sign} {node[word]:,}" for word, sign in BOUNDS.items() if word in node]
    return " ".join([kind.get(node["type"], node["type"]), ", ".join(bounds)]).strip()


def _cell(text: str) -> str:
    """Return text that does not end the cell of a table."""
    return text.replace("|", "\\|")


def with_table(page: str) -> str:
    """Return a page with the table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + table_text() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_text(folder / "config.schema.yaml", schema_text())
    write_text(folder / "README.md", with_table((folder / "README.md").read_text()))
