"""Sphinx' configuration. What is made of which file is said in ``pages``."""

import tomllib
from pathlib import Path

project = "nodeport-nft"
release = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["version"]
copyright = "the authors of nodeport-nft, Apache-2.0"

extensions = ["myst_parser"]
myst_heading_anchors = 4  # as GitHub's, so that links with anchors hold here and there
smartquotes = False  # in words such as --once two dashes are two dashes

html_theme = "furo"  # it asks no other server for fonts or scripts
html_title = f"nodeport-nft {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
