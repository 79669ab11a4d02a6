"""Write the pages of the package reference: one page for each folder of tinyalex, with all its public modules."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tinyalex"
OPTIONS = "   :members:\n   :undoc-members:\n   :ignore-module-all:\n"  # re-exports are listed where they are defined
INHERITED = "   :inherited-members: Layer, tuple\n"  # for layers: LRN inherits forward from a private base class


def modules(folder):
    """Return the dotted names of the public modules in a folder and its subfolders, each package before its modules.

    A name that begins with an underscore is not public. ``__main__`` is left out too, because importing it runs the
    command line.
    """
    names = []
    for path in folder.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            names.append(".".join(parts))
    return sorted(names)


def summary(path):
    """Return the first line of a Python file's docstring."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n")[0]


def heading(title, underline):
    return f"{title}\n{underline * len(title)}\n\n"


def pages():
    """Return the text of each page by its name: ``index``, ``package`` for the files at the top, and the folders."""
    folders = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    in_folders = {folder.name: modules(folder) for folder in folders}
    at_top = [name for name in modules(PACKAGE) if not any(name in names for names in in_folders.values())]
    summaries = {"package": summary(PACKAGE / "__init__.py")}
    summaries |= {folder.name: summary(folder / "__init__.py") for folder in folders}

    texts = {"index": heading("The package", "=")}
    for page, text in summaries.items():
        texts["index"] += f"- :doc:`{'tinyalex' if page == 'package' else page} <{page}>`: {text}\n"
    texts["index"] += "\n.. toctree::\n   :hidden:\n\n" + "".join(f"   {page}\n" for page in summaries)
    for page, names in {"package": at_top, **in_folders}.items():
        texts[page] = heading("tinyalex" if page == "package" else f"tinyalex.{page}", "=")
        for name in names:
            options = OPTIONS + (INHERITED if page == "layers" else "")
            texts[page] += heading(name, "-") + f".. automodule:: {name}\n{options}\n"
    return texts


def write(app):
    """Write the pages to ``api/`` beside the other sources, where Sphinx looks for them; remove pages left over."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    texts = {f"{page}.rst": text for page, text in pages().items()}
    for path in folder.glob("*.rst"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def skip(app, what, name, thing, skipped, options):
    """Leave out undocumented constants, and the fields of a named tuple, which its docstring lists already."""
    if skipped or what == "module" and not callable(thing):
        return True
    return True if type(thing).__name__ == "_tuplegetter" else None
