"""Sphinx extension: two lists that are made of what is there, ``paper-map`` and ``exercise-list``.

``paper-map`` shows README's table "The paper, section by section", with links to the source, to the lessons that name
the section in their header, and to the claims of the section. ``exercise-list`` shows the exercises.
"""

import ast
import re
from pathlib import Path

from pages import anchor
from sphinx.util.docutils import SphinxDirective

from tinyalex.claims import ledger
from tinyalex.words import counted

ROOT = Path(__file__).parents[2]
OTHER = {"1": "Introduction", "4": "Reducing overfitting"}  # sections that README's table does not have


def lessons():
    """Return the lessons as {file name without ending: (title, sections of the paper)}."""
    found = {}
    for path in sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        paper = re.search(r"^:Paper: (.+(?:\n    .+)*)", text, re.M)[1]
        found[path.stem] = (text.split("\n")[0], re.findall(r"§(\d(?:\.\d)?)", paper))
    return found


def sections():
    """Return README's table as a list of (section or "", heading, [text, ...]), one text for each row of a section."""
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## The paper, section by section")[1]
    found = {}
    for title, text in re.findall(r"^\| ((?:§|footnote).+?) \| (.+) \|$", table.split("\n## ")[0], re.M):
        number = re.match(r"§(\d(?:\.\d)?)", title)
        key = number[1] if number else title
        heading, texts = found.setdefault(key, (title, []))
        texts.append(text if title == heading else f"{title.removeprefix(f'§{key} ')}: {text}")
    named = {section for _, named in lessons().values() for section in named}
    for section in sorted(named - found.keys()):
        found[section] = (f"§{section} {OTHER.get(section, '')}".strip(), [])
    order = sorted((key for key in found if key[0].isdigit()), key=lambda key: [int(part) for part in key.split(".")])
    return [(key if key in order else "", *found[key]) for key in [*order, *(key for key in found if key not in order)]]


def linked(text):
    """Return a text of README with its files as links to their source."""

    def link(match):
        name = match[1]
        if not (ROOT / "tinyalex" / name).is_file():
            return f"``{name}``"
        if name.endswith(".py"):
            return f"`{name} <_modules/tinyalex/{name.removesuffix('.py')}.html>`__"
        return f":download:`{name} <../../tinyalex/{name}>`"

    return re.sub(r"`([^`]+)`", link, text)


def paper_text():
    """Return the page of the paper's sections in reStructuredText: source, lessons and claims of each."""
    claims, text = ledger.load(), ""
    for section, heading, texts in sections():
        text += f".. _{anchor(section)}:\n\n" if section else ""
        text += f"{heading}\n{'-' * len(heading)}\n\n"
        text += "".join(f":Source: {linked(each)}\n" for each in texts)
        named = [f":doc:`lessons/{name}`" for name, (_, own) in lessons().items() if section in own]
        text += f":Lessons: {'; '.join(named)}\n" if section and named else ""
        own = [claim for claim in claims if claim.section == section]
        if own:
            text += f":Claims: `{counted(len(own), 'claim')} <claims.html#claim-{own[0].number}>`__\n"
        text += "\n"
    return text


def exercise_text():
    """Return the list of the exercises in reStructuredText: what to write, the lesson, and the file."""
    by_number, text = {name[:2]: name for name in lessons()}, ""
    for path in sorted((ROOT / "lessons" / "exercises").glob("ex[0-9][0-9]_*.py")):
        number, docstring = path.name[2:4], ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        what = re.match(r"Exercise \d+: (.+?) \(lesson \d+\)", docstring)[1]
        escaped = (what[0].upper() + what[1:]).replace("|", r"\|")
        lesson = by_number["01" if number == "00" else number]
        text += (
            f"- **{int(number)}.** {escaped}. :doc:`Lesson {int(lesson[:2])} <lessons/{lesson}>`, "
            f":download:`{path.name} <../exercises/{path.name}>`, ``pytest -m ex{number}``\n"
        )
    return text


class PaperMap(SphinxDirective):
    """The sections of the paper: source, lessons and claims of each."""

    def run(self):
        """Return a section for each section of the paper."""
        return self.parse_text_to_nodes(paper_text(), allow_section_headings=True)


class ExerciseList(SphinxDirective):
    """The exercises: what to write, the lesson, and the file."""

    def run(self):
        """Return a list with an item for each exercise."""
        return self.parse_text_to_nodes(exercise_text())


def setup(app):
    """Register the directives."""
    app.add_directive("paper-map", PaperMap)
    app.add_directive("exercise-list", ExerciseList)
    return {"parallel_read_safe": True}
