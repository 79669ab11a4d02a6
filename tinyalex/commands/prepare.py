"""Make a prepared set from image files, once: square images of one size in shards that training reads fast."""

import os
from pathlib import Path

from tinyalex.commands.common import say
from tinyalex.errors import UsageError

_ILSVRC_2012 = {"train": "1,281,167 training", "test": "50,000 validation"}  # images


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, archives and lists that make one set: ILSVRC-2012's tars and devkit, class folders, flat "
        "validation images with their labels, Kaggle's folders, Tiny ImageNet, CIFAR-10",
    )
    command.add_argument(
        "out", metavar="OUT", help="folder for the set; a preparation that was stopped there is continued"
    )
    number = {"type": int, "metavar": "N"}
    command.add_argument(
        "--size", help="side of the images (default: Tiny ImageNet 64, CIFAR-10 32, else 256)", **number
    )
    command.add_argument("--workers", help="processes (default: one per CPU core)", **number)
    command.add_argument(
        "--seed",
        default=0,
        help="random seed of the order of the images, of --subset and of --test-share (default: 0)",
        **number,
    )
    command.add_argument(
        "--subset",
        metavar="N[xM]",
        help="a small set to try things out: the first N classes, at most M images of each per split",
    )
    command.add_argument(
        "--test-share",
        type=float,
        default=0.0,
        metavar="F",
        help="share of the images that becomes the test split, if the sources have none",
    )
    command.add_argument("--mean-from", metavar="SET", help="use the mean image and colours of another prepared set")
    command.add_argument(
        "--max-bad",
        default="0.01%",
        metavar="N|P%",
        help="how many images may be left out because they cannot be decoded (default: 0.01%%, but at least one)",
    )
    command.add_argument(
        "--numeric-folders", action="store_true", help="class folders named 0, 1, 2, ... 10 are sorted as numbers"
    )
    command.add_argument(
        "--verify-md5",
        action="store_true",
        help="accept only archives with a known MD5 sum: those of ILSVRC-2012, Tiny ImageNet and CIFAR-10",
    )
    command.add_argument(
        "--most-files", help="refuse a source with more images and folders (default: 1600000)", **number
    )


def run(options):
    """Prepare the set and print a summary."""
    from tinyalex.devices import parallel
    from tinyalex.prepare.index import sources, subset
    from tinyalex.prepare.pipeline import Settings, start

    _check(options)
    classes, per_class = subset.parse(options.subset) if options.subset else (None, None)
    sources.check_output(options.sources, options.out)
    names = [os.fsencode(Path(os.path.realpath(source)).name).decode("utf-8", "replace") for source in options.sources]
    chosen = {name: getattr(options, name) for name in Settings._fields}
    chosen["workers"] = options.workers or parallel.processors()
    out = Path(options.out)
    with start(out, Settings(**chosen), say) as preparation:
        index = sources.index(
            options.sources,
            preparation.scratch,
            say,
            test_share=options.test_share,
            seed=options.seed,
            classes=classes,
            per_class=per_class,
            numeric_folders=options.numeric_folders,
            verify_md5=options.verify_md5,
            most=options.most_files or sources.MOST,
        )
        made = preparation.make(index, names)
    for line in _summary(made, out):
        say(line)


def _check(options):
    for name, low, high in (("size", 1, 4096), ("workers", 1, 1024), ("seed", 0, 2**63 - 1), ("most_files", 1, 2**40)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} {value}: give a number from {low} to {high}")


def _summary(made, out):
    from tinyalex.prepare.complete import SKIPPED
    from tinyalex.prepare.sheet import NAME

    counts = {split: part["count"] for split, part in made["splits"].items()}
    yield (
        f"{out}: {made['kind']}, {counts['train']:,} training and {counts['test']:,} test images of "
        f"{made['size']} x {made['size']}, {len(made['classes']):,} classes; identity {made['identity'][:8]}"
    )
    for split, whole in _ILSVRC_2012.items() if made["kind"] == "ILSVRC-2012" else ():
        if counts[split] and not whole.startswith(f"{counts[split]:,} "):
            yield f"not all of ILSVRC-2012, which has {whole} images"
    if made["odd"]:
        yield "unusual: " + ", ".join(f"{count:,} {name}" for name, count in made["odd"].items())
    if bad := [row for part in made["splits"].values() for row in part["skipped"]]:
        yield f"left out: {len(bad):,} images that cannot be decoded; they are listed in {out / SKIPPED}"
    if groups := made["duplicates"]:
        across = sum(len({name.split("/")[0] for name in group}) > 1 for group in groups)
        yield f"duplicates: {len(groups):,} images occur several times, {across:,} in both splits; see the manifest"
    if made["statistics"]["from"] == "test":
        yield "warning: mean image and colours are those of the test images; --mean-from SET uses a training set's"
    for name, version in made["decoder"].items():
        if " and " in version:
            yield f"warning: some images were decoded with {name} {version}; their last bits may differ"
    yield f"look at {out / NAME}"
