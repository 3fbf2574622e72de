"""Sphinx: the pages are copied to ``build/docs/source`` with what is made for them, and built there (scripts/docs)."""

from gen import __version__

project = "Senbazuru"
copyright = "The Senbazuru authors, Apache-2.0"
release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"Senbazuru {__version__}"
html_static_path = ["static"]
html_css_files = ["drawings.css"]
html_copy_source = False
