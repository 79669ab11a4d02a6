"""Write a run as one page for a browser: curves, errors by class, mistakes, what the net looks at."""

from pathlib import Path

from tinyalex.commands.common import (
    check_classes,
    check_run,
    load_dataset_of_run,
    load_run,
    print_line,
    print_warning,
    which_checkpoint,
)
from tinyalex.commands.options import DATA, checkpoint, machine, test_share, user_path
from tinyalex.errors import CheckpointError, DataError, UsageError
from tinyalex.report import AMONG, TEST_IMAGES


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "runs",
        nargs="+",
        type=user_path,
        metavar="RUN",
        help="the folder of a run; the curves of further runs are drawn beside its own",
    )
    command.add_argument("--data", type=user_path, metavar="DIR", help=f"{DATA} (default: the first run's)")
    test_share(command, "the run's")
    command.add_argument(
        "--out",
        type=user_path,
        metavar="FILE",
        help="the page, a name that ends in .html (default: report.html in the first run's folder)",
    )
    command.add_argument(
        "--test-images",
        type=int,
        default=TEST_IMAGES,
        metavar="N",
        help=f"predict at most N test images, equally many of each class (default: {TEST_IMAGES})",
    )
    command.add_argument(
        "--among",
        type=int,
        default=AMONG,
        metavar="N",
        help=f"search the nearest images among N training images (default: {AMONG})",
    )
    checkpoint(command, best=True)
    machine(command)


def run(options):
    """Write the page and print where it is."""
    from tinyalex.report import pages
    from tinyalex.runs import run_folder

    for name in ("test_images", "among"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: give 1 or more")
    folders = [Path(given) for given in options.runs]
    for folder in folders:
        check_run(folder)
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: a file; give the folder of a run")
        if not run_folder.read_log(folder) and not any(folder.glob("checkpoint-*")):
            raise CheckpointError(f"{folder}: has neither a log nor a checkpoint; give the folder of a run")
    marked, out = options.out is None, Path(options.out or folders[0] / run_folder.REPORT)
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: a page is written; give a name that ends in .html")
    if marked:
        run_folder.adopt(folders[0])
    pages.check(out, marked)
    content, missing = pages.page(folders, _contents(options, folders[0]))
    pages.write(content, out, marked)
    for title, reason in missing.items():
        print_warning(f"{title}: not in the page ({reason})")
    print_line(f"{out}: {len(content) / 2**20:.1f} MiB, for any browser; it needs no network")


def _contents(options, folder):
    from tinyalex.report import pages

    limits = {"test_images": options.test_images, "among": options.among}
    limits["given"] = ["--data", str(options.data)] if options.data else []
    limits["given"] += [] if options.test_share is None else ["--test-share", f"{options.test_share:g}"]
    if not any(folder.glob("checkpoint-*")):
        why = "The run has no checkpoint yet, so only its log is shown."
        print_line(f"{folder}: {why}")
        return pages.Contents(None, None, why, **limits)
    run = load_run(folder, options.devices, best=options.best)
    print_line(f"{run.path}: {which_checkpoint(run)}")
    if not (options.data or run.recipe.data.set):
        why = "The run's recipe names no data set; add --data for what needs images."
    else:
        try:
            return pages.Contents(run, check_classes(run, load_dataset_of_run(run, options)), **limits)
        except (DataError, OSError) as error:
            if options.data:
                raise
            why = f"The run's images are not found or do not fit; add --data with where they are ({error})."
    print_warning(why)
    return pages.Contents(run, None, why, **limits)
