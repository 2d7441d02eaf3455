"""The site of the manual: `sphinx-build -W docs site`.

The pages are Markdown; the references of commands and of Python's names are generated here, from the very objects that
the command line and `import hubel` use.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))
os.environ["COLUMNS"] = "86"  # of the help texts
os.environ["NO_COLOR"] = "1"

project = "Hubel"
author = "The Hubel authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "Hubel"
html_static_path = ["static"]
html_css_files = ["wide.css"]
exclude_patterns = ["_build"]
default_role = "literal"
highlight_language = "text"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
autodoc_typehints = "none"  # the docstrings say shapes and units
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
OPTIONS = {"HubelClassifier": "   :exclude-members: set_fit_request, set_score_request\n"}  # scikit-learn's own text
DATA = {"MODELS": "The networks of the zoo by their names: a function that builds each."}


def help_of(name: str) -> str:
    """What `hubel NAME --help` prints; of `train`, all keys."""
    from hubel.cli import VERBS
    from hubel.cli.parsing import parsed

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        parsed(["--help", *(["all"] if name == "train" else [])], name, VERBS[name])
    return said.getvalue()


def commands() -> str:
    """The page of every verb and its keys."""
    from hubel.cli import VERBS

    parts = ["# Commands\n\nEvery verb with its keys, as `hubel VERB --help` prints them.\n"]
    for name in VERBS:
        parts.append(f"## hubel {name}\n\n```text\n{help_of(name).strip()}\n```\n")
    return "\n".join(parts)


def names() -> str:
    """The page of what `import hubel` offers."""
    import hubel

    parts = ["# Python\n\nWhat `import hubel` offers, in alphabetical order.\n"]
    for name in hubel.__all__:
        value = getattr(hubel, name)
        kind = "autoclass" if isinstance(value, type) else "autofunction" if callable(value) else "autodata"
        text = f"```{{eval-rst}}\n.. {kind}:: hubel.{name}\n{OPTIONS.get(name, '')}```"
        parts.append(f"## {name}\n\n{text if kind != 'autodata' else DATA[name]}\n")
    return "\n".join(parts)


def setup(app: object) -> None:
    """Writes the generated pages before the others are read."""
    for page, content in (("commands.md", commands()), ("python.md", names())):
        path = HERE / "reference" / page
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
