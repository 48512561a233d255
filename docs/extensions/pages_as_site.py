"""What the pages are as files, made into a site: links to files outside docs/, and the menu.

A link to a Markdown file outside docs/ leads to the page that shows this file, or to the file. Of a
folder outside docs/ the name is left.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "profiles/README.md": "profiles.md",
    "scbert/shipped/blood/README.md": "models/blood.md",
    "scbert/shipped/encoder/README.md": "models/encoder.md",
    "scbert/shipped/encoder_for_benchmarks/README.md": "models/encoder_for_benchmarks.md",
}
FOLDERS = ("results", "decisions")  # each README lists the other pages of its folder
MENU = "\n\n```{toctree}\n:hidden:\n:glob:\n*\n```\n"


def lead(app: Any, page: str, source: list[str]) -> None:
    """Replace the addresses, which are relative to the page, and add the menu of a folder."""
    folder = posixpath.join("docs", posixpath.dirname(page))

    def there(found: re.Match[str]) -> str:
        words, path, anchor = found[1], found[2], found[3] or ""
        file = posixpath.normpath(posixpath.join(folder, path))
        if file in PAGES:
            target = posixpath.relpath(posixpath.join("docs", PAGES[file]), folder)
            return f"[{words}]({target}{'' if file == 'README.md' else anchor})"
        if file.startswith("docs/"):
            return found[0]
        return "{download}" + f"`{words.replace('`', '')} <{path}>`"

    def name_of(found: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, found[2]))
        return f"`{found[1].strip('`')}`" if (ROOT / place).is_dir() else found[0]

    if page in {f"{folder}/README" for folder in FOLDERS}:
        source[0] += MENU
    source[0] = re.sub(r"\[([^]]*)\]\((\.\./[^)#]*\.md)(#[^)]*)?\)", there, source[0])
    source[0] = re.sub(r"\[([^]]*)\]\((\.\./[^)#]*)\)", name_of, source[0])


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("source-read", lead)
    return {"parallel_read_safe": True}
