"""Bring the translation files of the site up to date, and say what is missing in them.

``python lessons/site/translate.py 4 teaching`` takes the messages of lesson 4 and of teaching.rst out of their sources
and merges them into locale/zh_CN/LC_MESSAGES; without names, those of every page. A message that is not new keeps its
translation. One that has changed keeps it with the mark *fuzzy*, which a translator takes away. ``--check`` changes
nothing, builds nothing, and lists what is missing or out of date; it exits with 1 if something is. So does a test.

This needs Sphinx, and Babel, which is installed with it.
"""

import argparse
import ast
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

SITE = Path(__file__).parent
ROOT = SITE.parents[1]
MESSAGES = SITE / "locale" / "zh_CN" / "LC_MESSAGES"
LESSONS = [f"lessons/{path.stem}" for path in sorted(SITE.parent.glob("[0-9][0-9]_*.py"))]
PAGES = [
    *LESSONS,
    "lessons/index",
    *sorted(path.stem for path in SITE.glob("*.rst") if path.stem != "sg_execution_times"),
]


def read(path):
    """Return the catalog of a file with messages."""
    with path.open("rb") as file:
        return read_po(file)


def messages(catalog):
    """Return the messages of a catalog without its header."""
    return [message for message in catalog if message.id]


def one_line(text):
    """Return a text with single spaces."""
    return " ".join(text.split())


def has_words(message):
    """Return whether a message has words to translate: not only code, a formula or a link that brings its own text."""
    rest = re.sub(r"``.*?``|:[a-z:]+:`[^`<]*`", "", message, flags=re.S)
    return "\\frac" not in rest and not re.search(r"^\S+ = .*\\", rest) and re.search(r"[A-Za-z]{2}", rest) is not None


def pattern(page, message):
    """Return a message with the page's own name left out, so that it is the same in all lessons."""
    return message.replace(Path(page).name, "{name}")


def source(page):
    """Return the prose of a page as it is now, in reStructuredText."""
    if page in LESSONS:
        text = (ROOT / f"{page}.py").read_text(encoding="utf-8")
        blocks = re.findall(r"^# %%\n((?:#.*\n)*)", text, re.M)
        prose = [re.sub(r"^# ?", "", block, flags=re.M) for block in blocks]
        from pages import DOWNLOADS

        return "\n\n".join([ast.get_docstring(ast.parse(text)), DOWNLOADS.format(name=Path(page).name), *prose])
    if page == "lessons/index":
        listed = "\n".join(f"- :doc:`/{name}`" for name in LESSONS)
        return f"{(ROOT / 'lessons' / 'GALLERY_HEADER.rst').read_text(encoding='utf-8')}\n{listed}"
    text = (SITE / f"{page}.rst").read_text(encoding="utf-8")
    from contents import exercise_text, paper_text

    made = {".. paper-map::": paper_text, ".. exercise-list::": exercise_text}
    return re.sub(r"^\.\. (paper-map|exercise-list)::$", lambda match: made[match[0]](), text, flags=re.M)


def without_literals(text):
    """Return reStructuredText without its literal blocks, the options of its directives and its lists of pages."""
    text = re.sub(r"^( *)\.\. toctree::\n(?:\1 +.*\n|\n)*(?:\1 +.*)?", "", text, flags=re.M)
    text = re.sub(r"^( *)(\S.*)?::\n\n(?:\1 +.*(?:\n|\Z)|\n)+", _keep_directive, text, flags=re.M)
    text = re.sub(r"^( *):(?!alt)[a-z-]+: .*$", "", text, flags=re.M)
    text = re.sub(r"^( *)\.\. _.*:$", "", text, flags=re.M)
    return re.sub(r"^( *)\.\. [\w-]+::(?: \S+)?$", "", text, flags=re.M)


def _keep_directive(match):
    is_directive = (match[2] or "").startswith((".. ", "- .. "))
    return match[0] if is_directive else f"{match[1]}{match[2] or ''}::\n\n"


def out_of_date(page):
    """Yield what is missing or out of date in the translation of a page."""
    path = MESSAGES / f"{page}.po"
    if not path.is_file():
        yield "it has no translation"
        return
    text = rest = one_line(without_literals(source(page)))
    known = messages(read(path))
    for message in sorted(known, key=lambda message: len(message.id), reverse=True):
        if not message.string or message.fuzzy:
            yield f"{'changed' if message.fuzzy else 'not translated'}: {_begin(message.id)}"
        line = one_line(message.id)
        if line not in text:
            yield f"no longer in the text: {_begin(line)}"
        rest = rest.replace(line, "\n")
    for line in rest.split("\n"):
        if re.search(r"[A-Za-z]{2}", re.sub(r":(alt|[A-Z][\w ]*):", "", line)):
            yield f"new in the text: {_begin(line.strip(' -='))}"


def _begin(text):
    return text if len(text) <= 70 else f"{text[:67]}..."


def sections(text):
    """Return the sections of a README as {heading: text}; what stands above the first heading has the heading ""."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(["", *parts[1::2]], parts[::2], strict=True))


def digest(text):
    """Return a short digest of a text, whatever its line breaks are."""
    return hashlib.sha256(one_line(text).encode()).hexdigest()[:8]


def readme_out_of_date():
    """Yield the sections of README.zh-CN.md that are older than those of README.md, and what to write there."""
    english = sections((ROOT / "README.md").read_text(encoding="utf-8"))
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    marks = dict(re.findall(r"^<!-- README.md, (?:above the first heading|\"(.+?)\"): (\w+) -->$", chinese, re.M))
    for heading, text in english.items():
        if marks.get(heading) != digest(text):
            name = f'"{heading}"' if heading else "above the first heading"
            state = "has changed" if heading in marks else "is not translated"
            yield f"{name} {state}; its mark when it is up to date: <!-- README.md, {name}: {digest(text)} -->"
    for heading in marks.keys() - english.keys():
        yield f'"{heading}" is no longer in README.md'


def refresh(pages):
    """Take the messages out of the sources with Sphinx, and merge them into the files of these pages."""
    translations = {}
    for path in MESSAGES.rglob("*.po"):
        name = path.relative_to(MESSAGES).with_suffix("").as_posix()
        for message in messages(read(path)):
            if message.string and not message.fuzzy:
                translations[pattern(name, message.id)] = pattern(name, message.string)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "gettext", "-D", "plot_gallery=0"]
        command += ["-D", "exclude_patterns=api/*,lessons/GALLERY_HEADER.rst", str(SITE), folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        for page in pages:
            path, new = MESSAGES / f"{page}.po", read(Path(folder) / f"{page}.pot")
            catalog = read(path) if path.is_file() else Catalog(locale="zh_CN")
            catalog.update(new, no_fuzzy_matching=not path.is_file())
            catalog.obsolete.clear()
            clean, text = Catalog(locale="zh_CN", fuzzy=False), one_line(without_literals(source(page)))
            for message in messages(catalog):
                if one_line(message.id) in text:  # not a cell of terms.csv, nor what a figure of the last build shows
                    known = translations.get(pattern(page, message.id), "" if has_words(message.id) else message.id)
                    clean.add(
                        message.id, message.string or known.replace("{name}", Path(page).name), flags=message.flags
                    )
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                write_po(file, clean, width=0, omit_header=False)


def main():
    """Refresh the files of the pages that are named, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="number of a lesson, or name of a page; all if none")
    parser.add_argument("--check", action="store_true", help="change nothing: list what is missing or out of date")
    options = parser.parse_args()
    named = [page for page in PAGES if _is_named(page, options.pages)] if options.pages else PAGES
    sys.path[:0] = [str(ROOT), str(SITE.parent), str(SITE)]
    if not options.check:
        refresh(named)
    found = [f"{page}: {line}" for page in named for line in out_of_date(page)]
    found += [] if options.pages else [f"README.zh-CN.md: {line}" for line in readme_out_of_date()]
    print("\n".join(found) or "all is translated and up to date")
    sys.exit(options.check and bool(found))


def _is_named(page, names):
    number = re.match(r"lessons/(\d\d)_", page)
    return page in names or number is not None and any(name.isdigit() and int(name) == int(number[1]) for name in names)


if __name__ == "__main__":
    main()
