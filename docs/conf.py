"""How the site is built: ``make docs``. Nothing is fetched from a network, then or by a reader."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "bluesky-zarr"
author = "bluesky-zarr contributors"
copyright = author
version = release = version_of("bluesky-zarr")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "generated_reference",
]
exclude_patterns = ["_build"]

# Pages are read on a forge as well, where links go to headings.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# A name in single backticks is a link where the object is known, and code where it is not.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
# Attributes are documented where they are declared.
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = "bluesky-zarr"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
copybutton_exclude = ".linenos, .gp, .go"
