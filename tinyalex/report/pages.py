"""Puts a report together and writes it: ``report.html``, one file in which everything is that it shows.

After each epoch the page is written with what the log says (`Progress`), at the end, and by the command ``report``,
with all of it (`page`). In a run folder the file belongs to the run like its other files; one that is somebody else's
is never replaced. A part that cannot be made is named in the page, with the reason.
"""

import shlex
import time
from pathlib import Path

from tinyalex import __version__
from tinyalex.errors import TinyalexError
from tinyalex.report import AMONG, TEST_IMAGES, progress, results
from tinyalex.report.elements import element, text
from tinyalex.report.progress import LoggedRun, section
from tinyalex.runs import run_folder
from tinyalex.runs.run_folder import REPORT
from tinyalex.system import ownership, storage

REFRESH = 20  # seconds after which the page of a run that is training is loaded again
_STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


class Contents:
    """What a report shows beyond log and recipe.

    Parameters
    ----------
    run : tinyalex.runs.run_folder.Run or None
        The weights; None if the folder has no checkpoint.
    dataset : Dataset or None
        None if it is not found.
    why : str
        Why there is no data set, or no checkpoint, and what to type.
    test_images, among : int
        Predict at most so many test images; search the nearest images among at most so many training images.
    given : sequence of str
        Options that name the data, such as ``--data photos``, for commands that the page shows.
    """

    def __init__(self, run, dataset, why="", test_images=TEST_IMAGES, among=AMONG, given=()):
        self.run, self.dataset, self.why = run, dataset, why
        self.test_images, self.among, self.given = test_images, among, list(given)


def page(folders, contents=None, state=None, again=None):
    """Put a report together.

    Parameters
    ----------
    folders : list of str or Path
        Run folders. Their curves are drawn together; everything else is about the first.
    contents : Contents, optional
        Without it, only what the log and the recipe say.
    state : str, optional
        "running": the page reloads itself; otherwise why the run stopped, if that is known.
    again : str, optional
        The command that resumes the run.

    Returns
    -------
    content : bytes
    missing : dict of str to str
        The parts that could not be made, each with the reason.
    """
    runs, missing = [LoggedRun.read(folder) for folder in folders], {}
    first, lines, made = runs[0], [], []

    def add(title, make, *arguments):
        try:
            part = make(*arguments)
        except MemoryError:
            missing[title] = "there is not enough memory"
        except TinyalexError as error:
            missing[title] = " ".join(str(error).split())
        except Exception as error:
            missing[title] = " ".join(f"{type(error).__name__}: {error}".split())
        else:
            if part is not None:
                made.append(part)
            return part
        made.append(
            section(f"missing{len(missing)}", title, element("p", f"Not shown: {missing[title]}", class_="missing"))
        )
        return None

    tested, choice, given = None, [], contents.given if contents else []
    if contents and contents.run:
        which, choice = _checkpoint(contents.run, first.folder)
    explain = ["--run", str(first.folder), *(option for option in choice if option == "--last"), *given]
    if contents and contents.run and contents.dataset:
        try:
            tested = results.Tested.compute(contents.run, contents.dataset, contents.test_images)
            lines.append(results.line(tested, which))
        except (TinyalexError, MemoryError, OSError) as error:
            missing["the test images"] = " ".join(str(error).split())
            lines.append(f"The test images are not shown: {missing['the test images']}")
    elif contents and contents.why:
        lines.append(contents.why)
    elif contents is None:
        now = shlex.join(["tinyalex", "report", str(first.folder)])
        lines.append(f"Pictures and errors by class are added when training has ended, or now by: {now}")
    step = contents.run.metadata["step"] if contents and contents.run else None
    add("Where it stands", progress.overview, first, state, lines, step)
    if len(runs) > 1:
        add("The runs side by side", progress.comparison, runs)
    add("Learning curves", progress.curves, runs)
    if tested is not None and len(tested.labels):
        add("Errors by class", results.by_class, tested)
        add("Worst mistakes", results.mistakes, tested, explain)
        add("Test images", results.panel, tested)
        add("What the net looks at", results.looks, tested)
        add("Nearest training images", results.neighbours, tested, contents.dataset, contents.among)
    if contents and contents.run:
        add("The first layer's kernels", results.kernels, contents.run)
    add("Dead units", progress.units, first)
    add("Time and memory", progress.resources, first)
    add("Configuration", progress.configuration, first)
    seed = contents.run.metadata["seed"] if contents and contents.run else None
    add("How to go on", progress.commands, first, seed, state, again, choice, given)
    return _document(", ".join(run.name for run in runs), made, state == "running"), missing


def _checkpoint(run, folder):
    # Which checkpoint a page is about, in words, and the option with which commands take it that have another default.
    judged_by = run.metadata.get("judged_by", "test error")
    better = run_folder.better_than(run, folder)
    if better is None and run.metadata.get("tested"):
        which = f"{run.path.name}, which had the lowest {judged_by}, and which predict, explain and export take too"
        return which, ["--best"]
    if better is None:
        return run.path.name, []
    instead = f"predict, explain and export take {better[0].name}, which had {better[1]} {judged_by}"
    return f"{run.path.name}, the last one ({instead})", ["--last"]


def _document(title, sections, running):
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="refresh", content=str(REFRESH)) if running else None,
        element("title", f"{title} - tinyalex"),
    )
    style = element("style")
    style.text = _STYLE
    head.append(style)
    links = (element("a", each.find("h2").text, href=f"#{each.get('id')}") for each in sections)
    body = element(
        "body",
        element("header", element("h1", title), element("nav", links)),
        element("main", sections),
        element("footer", f"Written by tinyalex {__version__}. Everything is in this file; it needs no network."),
    )
    content = "<!DOCTYPE html>\n" + text(element("html", head, body, lang="en")) + "\n"
    return ownership.signed_page(content.encode("utf-8", "backslashreplace"))


def write(content, path, marked=True):
    """Write a page, atomically.

    Parameters
    ----------
    content : bytes
    path : str or Path
    marked : bool
        Whether the folder's marker lists the file. If not, for a file that a user names, a page is recognised by the
        hash at its end, and replaced only if it was not changed.

    Raises
    ------
    StorageError
        If it cannot be written, or tinyalex did not make the file that is there.
    """
    storage.write_bytes(Path(path), content, None if marked else ownership.is_page)


def check(path, marked=True):
    """Raise ForeignFileError if `write` would have to replace a file that tinyalex did not make."""
    storage.check(Path(path), None if marked else ownership.is_page)


class Progress:
    """Writes a run's page as the run goes; failing in that ends no run.

    Parameters
    ----------
    show : callable
        Called with a line of text, once, if the page cannot be written.
    again : str
        The command that resumes the run.
    share : float
        The largest share of the time that this may take: where epochs are short, not every one is shown.
    """

    def __init__(self, show, again, share=0.05):
        self._show, self._again, self._share = show, again, share
        self._warned, self._folder, self._next = False, None, 0.0

    def __call__(self, folder):
        """Write the page of a run that is training in a folder."""
        if self._folder not in (None, Path(folder)):  # the stage before this one has ended
            self._write(None)
            self._next = 0.0
        self._folder, began = Path(folder), time.monotonic()
        if began >= self._next:
            self._write("running")
            ended = time.monotonic()
            self._next = ended + (ended - began) / self._share

    def stopped(self, why):
        """Write the page of a run that has stopped; nothing is written if it never began."""
        if self._folder is not None:
            self._write(why)

    def finished(self, folder, dataset, load):
        """Write the whole page.

        Parameters
        ----------
        folder : Path
        dataset : Dataset
        load : callable
            Returns the run, as `tinyalex.runs.run_folder.load`.

        Returns
        -------
        str or None
            Why it is not written, or what is missing in it; None if nothing is.
        """
        self._folder = Path(folder)
        return self._attempt(lambda: page([folder], Contents(load(), dataset)))

    def _write(self, state):
        reason = self._attempt(lambda: page([self._folder], None, state, self._again))
        if reason and not self._warned:
            self._warned = True
            self._show(f"warning: {self._folder / REPORT}: {reason}; training continues")

    def _attempt(self, make):
        try:
            content, missing = make()
            write(content, self._folder / REPORT)
        except MemoryError:
            return "there is not enough memory"
        except TinyalexError as error:
            return " ".join(str(error).removeprefix(f"{self._folder / REPORT}: ").split())
        except Exception as error:
            return " ".join(f"{type(error).__name__}: {error}".split())
        return "; ".join(f"{title}: {reason}" for title, reason in missing.items()) or None
