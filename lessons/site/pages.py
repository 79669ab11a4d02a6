"""Sphinx extension: how the pages look. Formulas, answers, folded code, lines that wrap, downloads, links to the paper.

Formulas become MathML, which browsers draw without a script; docutils, which is installed with Sphinx, converts them.
``.. answer::`` becomes an HTML ``details`` element; in formats other than HTML its content is simply there. In the
pages of the lessons the code that draws a figure is folded, the downloads stand below the title, and the sections
that its header names are links to the page of the paper.
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.locale import _

DOWNLOADS = """.. rst-class:: downloads

:download:`Notebook <{name}.ipynb>` (brings the files that it needs) ·
:download:`script and its files, zipped <{name}.zip>` · both need only the package, ``pip install .``
"""


class Answer(Directive):
    """The answer to an item of a lesson's *Try*, which the page hides until it is asked for."""

    has_content = True

    def run(self):
        """Return the parsed content between the tags of a ``details`` element."""
        content = nodes.container(classes=["answer"])
        self.state.nested_parse(self.content, self.content_offset, content)
        return [_html(f"<details><summary>{_('Answer')}</summary>"), content, _html("</details>")]


def _html(text):
    return nodes.raw("", text, format="html")


def _inline(writer, node):
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer, node):
    lines = node.astext().split(r"\\")
    writer.body += ['<div class="math">', *(tex2mathml(line.strip(), as_block=True) for line in lines), "</div>"]
    raise nodes.SkipNode


def is_lesson(docname):
    """Return whether a page is that of a lesson."""
    return re.match(r"lessons/\d\d_", docname) is not None


def rewrite(app, docname, source):
    """Move a lesson's downloads below its title; let the gallery show its question and a dark picture."""
    if is_lesson(docname):
        text = source[0].split("\n.. _sphx_glr_download_lessons")[0]
        text = re.sub(r"\.\. only:: html\n\n +\.\. note::\n(?: +.*\n|\n)+", "", text, count=1)
        downloads = DOWNLOADS.format(name=docname.removeprefix("lessons/"))
        source[0] = re.sub(r"(\n=+\n)", lambda match: f"{match[1]}\n{downloads}", text, count=1)
    elif docname == "lessons/index":
        text = re.sub(r'tooltip=":Question: (.*?) :Paper: .*?"', r'tooltip="\1"', source[0])
        thumbnail = r"  \.\. image:: /lessons/images/thumb/sphx_glr_(\w+)_thumb\.png\n    :alt:\n"
        source[0] = re.sub(thumbnail, lambda match: _thumbnails(match, Path(app.srcdir)), text)


def _thumbnails(match, folder):
    dark = f"lessons/images/sphx_glr_{match[1]}_001_dark.png"
    if not (folder / dark).is_file():  # the lesson was not run
        return match[0]
    return f"{match[0]}    :class: only-light\n\n  .. image:: /{dark}\n    :alt:\n    :class: only-dark\n"


def split_plot(code):
    """Return the lines of a cell before its figure and those that draw it; the second is empty if it draws none."""
    begin = re.search(r"^figure\b.* = (plt|Figure)\b", code, re.M)
    return (code[: begin.start()], code[begin.start() :]) if begin and "keep(figure" in code else (code, "")


def finish(app, doctree):
    """Fold the code of figures in a lesson, and link the sections that its header names."""
    if not is_lesson(app.env.docname):
        return
    for block in list(doctree.findall(nodes.literal_block)):
        before, plot = split_plot(block.astext())
        if plot:
            parts = [
                _html(f'<details class="plot"><summary>{_("The code of the figure")}</summary>'),
                None,
                _html("</details>"),
            ]
            parts[1] = nodes.literal_block(plot, plot, **block.attributes)
            if before.strip():
                parts.insert(0, nodes.literal_block(before.rstrip(), before.rstrip(), **block.attributes))
            block.replace_self(parts)
    for field in doctree.findall(nodes.field_body):
        for text in list(field.findall(nodes.Text)):
            if "§" in text and not isinstance(text.parent, nodes.literal | nodes.reference):
                text.parent.replace(text, list(_linked(text.astext())))


def _linked(text):
    for part in re.split(r"(§\d(?:\.\d)?)", text):
        if part.startswith("§"):
            yield nodes.reference("", part, refuri=f"../paper.html#{anchor(part[1:])}", internal=True)
        elif part:
            yield nodes.Text(part)


def anchor(section):
    """Return the anchor of a section on the page of the paper: section-3-5."""
    return "section-" + section.replace(".", "-")


def in_lines(html):
    """Return highlighted code with an element for each line, so that the page can indent a line that wraps."""
    out, open_tags = [], []
    for line in re.sub(r"\n((?:</\w+>)*)$", r"\1", html).split("\n"):
        begin = "".join(open_tags)
        for tag in re.findall(r"<[^>]+>", line):
            if tag.startswith("</"):
                open_tags.pop()
            else:
                open_tags.append(tag)
        end = "".join("</" + re.match(r"<(\w+)", tag)[1] + ">" for tag in reversed(open_tags))
        out.append(f'<span class="line">{begin}{line}{end}\n</span>')
    return "".join(out)


def wrap_code(app, pagename, templatename, context, doctree):
    """Put each line of code of a page into an element; pages of whole source files are left as they are."""
    if "body" in context and not pagename.startswith("_modules"):
        pattern = r'(<div class="highlight"><pre>(?:<span></span>)?)(.*?)(?=</pre>)'
        context["body"] = re.sub(pattern, lambda match: match[1] + in_lines(match[2]), context["body"], flags=re.DOTALL)


def setup(app):
    """Register the renderer of formulas, ``mathml``, the directive ``answer``, and what changes the lessons' pages."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.add_directive("answer", Answer)
    app.connect("source-read", rewrite)
    app.connect("doctree-read", finish)
    app.connect("html-page-context", wrap_code)
    return {"parallel_read_safe": True}
