"""Sphinx: builds the pages of this folder, and the reference from the docstrings."""
# ruff: noqa: INP001 - Sphinx reads this file by its path, and imports no package of this name

import importlib.metadata
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docutils.nodes import Element  # type: ignore[import-untyped] # docutils has no types
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "pulp_hooks"
author = "The pulp_hooks authors"
project_copyright = f"2026, {author}"
release = importlib.metadata.version("pulp-hooks")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_show_sourcelink = False

# Single backticks are code in our docstrings, as they are in Markdown.
default_role = "code"

autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# One entry for each attribute, in the list of its class: without it every one would have a second entry below.
napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    # The documentation is built without a network, so there is no inventory of what others document: links into the
    # standard library and into marshmallow cannot be had.
    ("py:.*", r"(asyncio|celery|collections|datetime|marshmallow|os|pathlib|sqlalchemy|types|typing)\..*"),
    ("py:class", "(Async)?Connection"),
    ("py:exc", "ValidationError"),
    # A type variable has no page.
    ("py:class", r"pulp_hooks\.journal\.queries\._T"),
    # What a listener in the list of listeners holds for the use of this package alone.
    ("py:class", r"pulp_hooks\.plugins\.(discovery\.Installed|inspection\.Implementation)"),
]

_BODY_TYPES = "Body|JsonValue|RepoPublishFinished|RepoPublishStarted|RepoSyncFinished|RepoSyncStarted"
_FENCED = re.compile(r"^(?P<indent> *)```(?P<language>\w+)$(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


def _fences_to_directives(  # noqa: PLR0913, PLR0917 - Sphinx passes all of it, in this order
    app: "Sphinx", what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn the fenced examples of a docstring, Markdown to those who read the code, into what autodoc understands."""
    del app, what, name, obj, options

    def directive(fenced: re.Match[str]) -> str:
        code = re.sub(r"^(?=.)", f"{fenced['indent']}   ", fenced["code"], flags=re.MULTILINE)
        return f"{fenced['indent']}.. code-block:: {fenced['language']}\n{code}"

    lines[:] = _FENCED.sub(directive, "\n".join(lines)).split("\n")


def _find_body_type(
    app: "Sphinx", env: "BuildEnvironment", node: "pending_xref", content: "Element"
) -> "Element | None":
    """Link the types of the bodies: annotations name them without their module, as type checkers alone import them."""
    if not re.fullmatch(_BODY_TYPES, node["reftarget"]):
        return None
    target = f"pulp_hooks.bodies.types.{node['reftarget']}"
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


def setup(app: "Sphinx") -> None:
    """See each docstring before napoleon does, and each link that leads nowhere."""
    app.connect("autodoc-process-docstring", _fences_to_directives, priority=400)
    app.connect("missing-reference", _find_body_type)
