"""The site, which `make docs` builds. Why by Sphinx: decisions/workflow.md."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

from pygments.lexers.python import PythonLexer  # noqa: E402  after the path is set
from sphinx.highlighting import lexers  # noqa: E402

from scbert import __version__  # noqa: E402

lexers["snakemake"] = PythonLexer()  # Pygments has none; a Snakefile is Python and a little more

project = "scBERT end to end"
author = "The scBERT-end-to-end developers"
copyright = author
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "made_from_code",
    "pages_as_site",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # a tutorial runs again when its text has changed; CI begins with none
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds for a cell; they take 20, but on a busy machine far longer
nb_execution_cache_path = str(HERE / "_build/notebooks")
nb_execution_in_temp = True  # they write files
nb_output_stderr = "remove"
nb_merge_streams = True
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_custom_sections = ["Gives back"]  # see made_from_code.returns
python_maximum_signature_line_length = 80

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navbar_persistent": [],  # the search stands above the menu
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}
