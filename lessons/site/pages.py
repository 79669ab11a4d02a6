"""Sphinx extension: formulas as MathML, which browsers draw without a script, and answers that open on a click.

The formulas are converted by docutils, which is installed with Sphinx. ``.. answer::`` becomes an HTML ``details``
element; in formats other than HTML its content is simply there.
"""

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml


class Answer(Directive):
    """The answer to an item of a lesson's *Try*, which the page hides until it is asked for."""

    has_content = True

    def run(self):
        """Return the parsed content between the tags of a ``details`` element."""
        content = nodes.container(classes=["answer"])
        self.state.nested_parse(self.content, self.content_offset, content)
        opening = nodes.raw("", "<details><summary>Answer</summary>", format="html")
        return [opening, content, nodes.raw("", "</details>", format="html")]


def _inline(writer, node):
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer, node):
    lines = node.astext().split(r"\\")
    writer.body += ['<div class="math">', *(tex2mathml(line.strip(), as_block=True) for line in lines), "</div>"]
    raise nodes.SkipNode


def setup(app):
    """Register the renderer of formulas, ``mathml``, and the directive ``answer``."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_directive("answer", Answer)
    return {"parallel_read_safe": True}
