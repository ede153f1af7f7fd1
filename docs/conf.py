"""Sphinx configuration. `make docs` builds the site into build/docs; every warning is an error."""

from __future__ import annotations

import erlmesh

project = "erlmesh"
author = "the erlmesh authors"
copyright = "the erlmesh authors"  # noqa: A001 - Sphinx's name
version = release = erlmesh.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
suppress_warnings = ["myst.xref_missing"]  # pages link to files of the repository, such as ../../deploy/
myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "colon_fence"]

html_theme = "furo"
html_title = f"erlmesh {release}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
add_module_names = False
