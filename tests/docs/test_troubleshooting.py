"""The page of messages quotes messages that the program has."""

import ast
import re

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
OF_OTHERS = ("scbert: command not found", "No module named", "LockException")


def text_of(node):
    """A string of the source as it is shown, each value that is filled in as an ellipsis."""
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(text_of, node.values))
        case ast.BinOp():
            return text_of(node.left) + text_of(node.right)
    return "…"


def sources():
    return [*sorted(ROOT.glob("scbert/**/*.py")), ROOT / "scbert/__init__.py"]


def strings():
    trees = (ast.parse(path.read_text()) for path in sources())
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return [text_of(n) for tree in trees for n in ast.walk(tree) if isinstance(n, kinds)]


def test_quoted_messages_are_those_of_the_program():
    said = "\n".join([*strings(), re.sub(r"%d\.%d", "…", (ROOT / "Makefile").read_text())])
    quoted = re.findall(r"^\| `([^`]*)`", PAGE, re.MULTILINE)
    messages = [text for text in quoted if " " in text and not text.startswith(OF_OTHERS)]
    assert len(messages) > 30
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in said, message


def test_each_warning_is_explained():
    trees = (ast.parse(path.read_text()) for path in sources())
    codes = {
        node.args[0].value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Caution"
    }
    assert len(codes) > 10
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
