"""Sphinx: executed notebooks and Markdown in, static pages out; nothing is loaded from elsewhere."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project, author, copyright = "mlfin", "The mlfin authors", "The mlfin authors"  # noqa: A001
extensions = ["myst_nb", "sphinx_design", "mathml"]
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of outputs: CommonMark alone knows no tables
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_inline", "attrs_block"]
myst_heading_anchors = 4
myst_fence_as_directive = []
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header", "misc.highlighting_failure",
                     "myst.xref_missing"]  # anchors are HTML: check.py follows every link of the built pages
html_theme = "pydata_sphinx_theme"
html_title = "mlfin"
html_static_path = ["static"]
html_css_files = ["mlfin.css"]
html_js_files = [("plotly.min.js", {"priority": 100})]
html_copy_source = False
html_show_search_summary = False  # would be fetched, which a browser refuses for files
html_sidebars = {"cli": [], "glossary": []}  # nothing lies beneath them
html_show_sourcelink = False
html_use_index = False  # names are in the API reference; Sphinx knows none of them
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "logo": {"text": "mlfin"},
}
html_math_renderer, myst_update_mathjax = "mathml", False
myst_dmath_double_inline = True
myst_dmath_allow_digits = myst_dmath_allow_space = False  # $5 is money
exclude_patterns = ["stage"]
