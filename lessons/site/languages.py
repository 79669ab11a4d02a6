"""Sphinx extension: the pages in simplified Chinese, below ``zh/`` of the English ones.

The English build builds the Chinese pages at its end, from the same sources and from locale/zh_CN/LC_MESSAGES, a file
for each page (translate.py keeps these up to date). No lesson is run again: figures and printed output are those of
the English build. Prose only is translated. The reference of the package, its source and the page of the claims exist
in English alone; the Chinese pages link to them.
"""

import gettext
import html
import re
import subprocess
import sys
from pathlib import Path

from docutils import nodes
from sphinx.errors import SphinxError
from sphinx.search.zh import SearchChinese
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

LOCALE = Path(__file__).parent / "locale"
LANGUAGE, FOLDER = "zh_CN", "zh"  # of the translation, and of its pages below the English ones
ENGLISH_ONLY = r"^((?:\.\./)*)((?:_modules|api)/|claims\.html)"


def is_chinese(app):
    """Return whether this build makes the Chinese pages."""
    return app.config.language == LANGUAGE


def translated(app, docname, text):
    """Return a message of a page in the language of the build; the text itself if there is no translation."""
    if not is_chinese(app):
        return text
    return gettext.translation(docname, LOCALE, [LANGUAGE], fallback=True).gettext(text)


def configure(app, config):
    """In a build of the Chinese pages: take what the English build has run, and leave out what is in English alone."""
    if is_chinese(app):
        config.sphinx_gallery_conf["filename_pattern"] = "$^"  # runs no lesson; keeps the pages of those that were run
        config.exclude_patterns = [*config.exclude_patterns, "api/*"]
        config.suppress_warnings = [*config.suppress_warnings, "toc.excluded"]


def build_chinese(app, exception):
    """Build the Chinese pages after the English ones."""
    if exception is None and app.builder.name == "html" and not is_chinese(app):
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-b",
            "html",
            "-c",
            str(app.confdir),
            "-D",
            f"language={LANGUAGE}",
        ]
        command += ["-W"] if app.warningiserror else []
        if subprocess.run([*command, str(app.srcdir), str(app.outdir / FOLDER)]).returncode:
            raise SphinxError("the Chinese pages were not built; their errors stand above")


class Search(SearchChinese):
    """Finds Chinese words, which stand without spaces: two to four characters in a row, and longer ones in a clause."""

    language_name = "English"  # of the stemmer, which Sphinx 9 would call ChineseStemmer

    def split(self, input):
        """Return the words of a text, its clauses, and all that two to four neighbouring characters may be."""
        clauses = re.findall(r"[\u4e00-\u9fff]+", input)
        parts = (clause[k : k + n] for clause in clauses for n in (2, 3, 4) for k in range(len(clause) - n + 1))
        return [*super().split(input), *clauses, *parts]


class LettersMayTouchMarkup(SphinxTransform):
    """Let translations have inline markup without spaces around it, as Chinese has none between words."""

    default_priority = 19  # of sphinx.transforms.i18n.Locale, which parses the translations: 20

    def apply(self):
        """Change how what is parsed from now on is read."""
        self.document.settings.character_level_inline_markup = True


class LettersMayNotTouchMarkup(SphinxTransform):
    """Read the next page as before."""

    default_priority = 21

    def apply(self):
        """Change it back."""
        self.document.settings.character_level_inline_markup = False


def translate_gallery(app, docname, source):
    """Translate the titles and questions of the gallery, which sphinx-gallery writes as HTML."""
    if docname != "lessons/index" or not is_chinese(app):
        return

    def item(match):
        name = re.search(r":doc:`/(\S+?)`", match[0])[1]

        def say(text):
            return html.escape(translated(app, name, html.unescape(text[2])))

        text = re.sub(r'(tooltip=")([^"]+)', lambda found: found[1] + say(found), match[0])
        return re.sub(r'(thumbnail-title">)([^<]+)', lambda found: found[1] + say(found), text)

    source[0] = re.sub(r'<div class="sphx-glr-thumbcontainer".*?</div>', item, source[0], flags=re.S)


def english_page(app, env, node, content):
    """Return a link to a page that exists in English alone."""
    if node["reftype"] == "doc" and is_chinese(app):
        target = relative_uri(node["refdoc"], node["reftarget"].lstrip("/"))
        if re.match(ENGLISH_ONLY, target):
            text = content.astext()
            if not node["refexplicit"]:
                text = "tinyalex." + Path(target).name
            return nodes.reference("", text, refuri=f"{target}.html", internal=True)
    return None


def link_english(app, doctree, docname):
    """Turn links to pages that exist in English alone to those beside the folder of the Chinese pages."""
    if is_chinese(app):
        for link in doctree.findall(nodes.reference):
            if "refuri" in link:
                link["refuri"] = re.sub(ENGLISH_ONLY, r"\1../\2", link["refuri"])


def link_other(app, pagename, templatename, context, doctree):
    """Give the template the link to the same page in the other language."""
    if pagename not in app.env.found_docs or pagename.startswith("api/"):
        return
    up = "../" * pagename.count("/")
    if is_chinese(app):
        context["other_language"] = ("en", "English", f"{up}../{pagename}.html")
    else:
        context["other_language"] = ("zh-CN", "中文", f"{up}{FOLDER}/{pagename}.html")


def setup(app):
    """Register what makes, and links, the pages of two languages."""
    app.connect("config-inited", configure, priority=1)
    app.connect("source-read", translate_gallery, priority=900)
    app.connect("missing-reference", english_page)
    app.connect("doctree-resolved", link_english)
    app.connect("html-page-context", link_other)
    app.connect("build-finished", build_chinese, priority=900)
    app.add_search_language(Search)
    app.add_transform(LettersMayTouchMarkup)
    app.add_transform(LettersMayNotTouchMarkup)
    return {"parallel_read_safe": True}
