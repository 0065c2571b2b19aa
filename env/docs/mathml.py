"""Formulae as MathML, made when the site is built: a browser draws them without a script or a network."""
import re

from docutils import nodes
from latex2mathml.converter import convert


def mathml(text: str, display: str = "inline") -> str:
    """A formula in LaTeX as a `<math>` element, `display` "inline" or "block"; `ValueError` where a command
    is not known, so that none stands on a page as it was written."""
    made = convert(" ".join(text.split()), display=display)
    made = re.sub(r"\\([_%#&$])", r"\1", made)  # \text{known\_at}: characters, which LaTeX marks
    if "\\" in made:
        raise ValueError(f"mathml: no MathML for {text!r}")
    return made


def visit_inline(writer, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(writer, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="mlfin-formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app) -> dict:
    """Sphinx: the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
