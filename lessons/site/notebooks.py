"""Sphinx extension: downloads of the lessons that run where only the package is installed.

A lesson imports ``shared.py`` and reads files of ``lessons/`` and ``data/``. While sphinx-gallery runs a lesson,
`trace` notes which ones. Afterwards `complete` puts them into the lesson's notebook, in cells that write them into a
folder beside it, and into a zip archive with the script. No list of files has to be kept, also for lessons to come.
"""

import base64
import json
import re
import sys
import textwrap
import zipfile
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = "tinyalex-lessons"  # what the cells and the archive write into
ALWAYS = ("lessons/shared.py",)
PLAIN = (".py", ".toml")  # shown in a cell of their own; other files are packed

_read, _lesson = {}, None  # the files of each lesson that was run, and the one that runs

SETUP = f'''# The files that this lesson shares with others: these cells write them into a folder beside the notebook.
import sys
from pathlib import Path

for folder in {{folders}}:
    Path("{FOLDER}", folder).mkdir(parents=True, exist_ok=True)
sys.path.insert(0, str(Path("{FOLDER}", "lessons").resolve()))'''
PACKED = f'''import base64, zlib

for name, content in {{packed}}.items():
    Path("{FOLDER}", name).write_bytes(zlib.decompress(base64.b85decode(content)))'''


def trace(gallery_conf, file):
    """Take the files that are opened from now on for those of the lesson ``file``; sphinx-gallery calls this."""
    global _lesson
    _lesson = Path(file).stem
    _read[_lesson] = set()


def _opened(event, arguments):
    if event == "open" and _lesson and isinstance(arguments[0], str) and "r" in (arguments[1] or "r"):
        path = Path(arguments[0]).absolute()
        beside = path.parent == ROOT / "lessons" and path.suffix in (".json", ".toml")  # not the lessons themselves
        if beside or path.is_relative_to(ROOT / "data"):
            _read[_lesson].add(path.relative_to(ROOT).as_posix())


def files(lesson):
    """Return the files that a lesson needs, as sorted paths in the repository; without a run, the least."""
    return sorted({*ALWAYS, *(name for name in _read.get(lesson, ()) if (ROOT / name).is_file())})


def cells(names):
    """Return the code of the cells that write these files."""
    folders = sorted({str(Path(name).parent.as_posix()) for name in names})
    plain = [name for name in names if name.endswith(PLAIN)]
    packed = {
        name: base64.b85encode(zlib.compress((ROOT / name).read_bytes(), 9)).decode()
        for name in names
        if name not in plain
    }
    code = [SETUP.format(folders=folders)]
    code += [f"%%writefile {FOLDER}/{name}\n{(ROOT / name).read_text(encoding='utf-8')}" for name in plain]
    return [*code, PACKED.format(packed=packed)] if packed else code


def markdown(text):
    """Return a text cell with what sphinx-gallery leaves as reStructuredText: the header, answers and formulas."""
    text = re.sub(r"^:([A-Z][\w ]+): ", r"- **\1:** ", text, flags=re.M)

    def answer(match):
        content = textwrap.indent(textwrap.dedent(match[2]).strip("\n"), match[1])
        return f"{match[1]}<details><summary>Answer</summary>\n\n{content}\n\n{match[1]}</details>\n"

    text = re.sub(r"^( *)\.\. answer::\n((?:\n|\1 +.*\n)+)", answer, text, flags=re.M)
    text = re.sub(r":\w+:`([^`<]+?)(?: <[^`>]+>)?`", r"\1", text)
    return text.replace(r"\begin{align}", "$$\\begin{gathered}").replace(r"\end{align}", "\\end{gathered}$$")


def complete(app):
    """Complete the notebooks, and the zip archives of the scripts, that sphinx-gallery has written."""
    global _lesson
    _lesson = None
    folder = Path(app.srcdir) / "lessons"
    for path in sorted(folder.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if "tinyalex" in notebook["metadata"]:
            continue  # of an earlier build
        names = files(path.stem)
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = markdown("".join(cell["source"])).splitlines(keepends=True)
        hidden = [
            {"cell_type": "code", "execution_count": None, "metadata": {"jupyter": {"source_hidden": True}},
             "outputs": [], "source": code.splitlines(keepends=True)}
            for code in cells(names)
        ]  # fmt: skip
        notebook["cells"][1:1] = hidden  # below the title
        notebook["metadata"]["tinyalex"] = {"files": names}
        path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
        with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (f"lessons/{path.stem}.py", *names):
                archive.write(ROOT / name, f"{FOLDER}/{name}")


def setup(app):
    """Note the files that lessons open; complete the notebooks after sphinx-gallery has made them."""
    sys.addaudithook(_opened)
    app.connect("builder-inited", complete, priority=900)
    return {"parallel_read_safe": True}
