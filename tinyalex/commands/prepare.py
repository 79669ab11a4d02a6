"""Make a prepared set of image files, once: squares of one size in shards that training reads fast."""

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
        help="folders, tars and lists that make one set: ILSVRC-2012's tars and devkit, class folders, flat validation "
        "images with their labels, Kaggle's folders, Tiny ImageNet, CIFAR-10; what they are is found out by looking",
    )
    command.add_argument("out", metavar="OUT", help="folder for the set; a preparation that was stopped there goes on")
    number = {"type": int, "metavar": "N"}
    command.add_argument(
        "--size", help="side of the images (default: Tiny ImageNet 64, CIFAR-10 32, else 256)", **number
    )
    command.add_argument("--workers", help="processes (default: one a processor)", **number)
    command.add_argument(
        "--seed", default=0, help="of the order of the images and of all shares (default: 0)", **number
    )
    command.add_argument(
        "--subset", metavar="N[xM]", help="for trying things out: N classes, and of each at most M images a split"
    )
    command.add_argument(
        "--test-share", type=float, default=0.0, metavar="F", help="share of images without a split to test on"
    )
    command.add_argument("--mean-from", metavar="SET", help="take mean image and colours from another prepared set")
    command.add_argument(
        "--max-bad",
        default="0.01%",
        metavar="N|P%",
        help="how many images may be left out because they cannot be decoded (default: 0.01%%, but at least one)",
    )
    command.add_argument(
        "--numeric-folders", action="store_true", help="class folders called 0, 1, 2, ... 10 are in this order"
    )
    command.add_argument("--verify-md5", action="store_true", help="accept ILSVRC-2012's published archives only")
    command.add_argument("--most-files", help="refuse a source with more files (default: 1600000)", **number)


def run(options):
    """Prepare the set and say what is in it."""
    from tinyalex.devices import parallel
    from tinyalex.prepare.index import sources, subset
    from tinyalex.prepare.pipeline import Settings, prepare

    _check(options)
    classes, per_class = subset.parse(options.subset) if options.subset else (None, None)
    sources.check_out(options.sources, options.out)

    def index(scratch):
        return sources.index(
            options.sources,
            scratch,
            say,
            test_share=options.test_share,
            seed=options.seed,
            classes=classes,
            per_class=per_class,
            numeric_folders=options.numeric_folders,
            verify_md5=options.verify_md5,
            most=options.most_files or sources.MOST,
        )

    names = [os.fsencode(Path(os.path.realpath(source)).name).decode("utf-8", "replace") for source in options.sources]
    chosen = {name: getattr(options, name) for name in Settings._fields}
    chosen["workers"] = options.workers or parallel.processors()
    out = Path(options.out)
    for line in _summary(prepare(index, names, out, Settings(**chosen), say), out):
        say(line)


def _check(options):
    for name, low, high in (("size", 1, 4096), ("workers", 1, 1024), ("seed", 0, 2**63 - 1), ("most_files", 1, 2**40)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} {value}: wanted a number from {low} to {high}")


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
    if bad := [each for part in made["splits"].values() for each in part["skipped"]]:
        yield f"left out: {len(bad):,} images that cannot be decoded; they are in {out / SKIPPED}"
    if groups := made["duplicates"]:
        across = sum(len({name.split("/")[0] for name in group}) > 1 for group in groups)
        yield f"more than once: {len(groups):,} images, {across:,} of them in training and in test; see the manifest"
    if made["statistics"]["from"] == "test":
        yield "warning: mean image and colours are the test images' own; --mean-from SET takes a training set's"
    for name, version in made["decoder"].items():
        if " and " in version:
            yield f"warning: some images were decoded with {name} {version}; their last bits may differ"
    yield f"look at {out / NAME}"
