"""How ``make docs`` turns these pages into HTML."""

project = "napari-mep"
copyright = "napari-mep developers, GPL-3.0-or-later"  # noqa: A001  (Sphinx wants this name)
extensions = ["myst_parser"]
html_theme = "alabaster"
html_theme_options = {"description": "Multislice electron ptychography with a learned prior"}
html_title = "napari-mep"
html_show_sourcelink = False
myst_heading_anchors = 3
