"""Parts of the site made elsewhere: the reference from the code, figures from a script, links."""

import re
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import typer

from scbert.cli import app
from scbert.config import Config
from tests.docs.pages import ROOT, pages


def module(path):
    spec = spec_from_file_location(path.stem, path)
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


MADE = module(ROOT / "docs/extensions/made_from_code.py")


def test_reference_has_every_command_and_option():
    text = MADE.commands_text()
    for name, command in typer.main.get_command(app).commands.items():
        section = text.partition(f"## scbert {name}\n")[2].partition("\n## ")[0]
        options = [one for one in command.params if one.param_type_name == "option"]
        assert all(f"`{one.opts[0]}`" in section for one in options if one.name != "help")


def test_reference_has_every_key_and_what_it_takes():
    text = MADE.config_text()
    for name in Config.model_fields:
        assert f"## {name}\n" in text or f"| `{name}` |" in text
    assert "| `n_bins` | `5` | *whole number ≥ 1 ≤ 15*<br>above bin 0;" in text
    assert "| `optimizer.checkpoints.keep` | `2` |" in text


def test_notes_of_yaml_are_found_by_their_keys():
    text = "a:  # first\n  b: 1   # second\n  c: x#y\nd: 2\n"
    assert MADE.comments_of_yaml(text) == {
        ("a",): "first",
        ("a", "b"): "second",
        ("a", "c"): "",
        ("d",): "",
    }


def test_figures_are_those_that_the_script_draws(tmp_path):
    drawing = module(ROOT / "docs/figures/draw.py")
    drawing.FOLDER = tmp_path
    for figure in drawing.FIGURES:
        figure()
        name = f"{figure.__name__}.svg"
        assert (tmp_path / name).read_text() == (ROOT / "docs/figures" / name).read_text()


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_files(page):
    text = re.sub(r"^ *```.*?^ *```|`[^`]*`", "", (ROOT / page).read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), target
