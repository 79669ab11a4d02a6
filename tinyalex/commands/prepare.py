"""Make a prepared set from image files: square images of one size, stored in shards that training reads fast."""

import os
from pathlib import Path

from tinyalex.commands.common import print_if_possible, print_line
from tinyalex.commands.options import user_path
from tinyalex.errors import UsageError
from tinyalex.words import counted

QUALITY = 90  # of JPEG files: about 27 kB for a photograph of 256 x 256

_COMPLETE = {  # images of a kind of set
    "ILSVRC-2010": {"train": ["1,261,406 training"], "test": ["150,000 test", "50,000 validation"]},
    "ILSVRC-2012": {"train": ["1,281,167 training"], "test": ["50,000 validation", "100,000 test"]},
}


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "sources",
        nargs="+",
        type=user_path,
        metavar="SOURCE",
        help="folders, tar files and label lists that together make one set: the tars and the devkit of ILSVRC-2012, "
        "or those of ILSVRC-2010 with its patch_images.tar and the ground truth of its test images; a folder "
        "per class, a folder of validation images with a label list, Kaggle's folders, Tiny ImageNet, CIFAR-10 and "
        "CIFAR-100; the layout is detected",
    )
    command.add_argument(
        "out", type=user_path, metavar="OUT", help="folder for the set; a preparation that was stopped there is resumed"
    )
    number = {"type": int, "metavar": "N"}
    command.add_argument(
        "--size", help="side of the images in pixels (default: Tiny ImageNet 64, CIFAR 32, others 256)", **number
    )
    command.add_argument(
        "--jpeg",
        action="store_true",
        help="store the images as JPEG files, which threads decode each time they are read, for disks that are small "
        "or slow: about 27 kB an image of 256 x 256, not 197 kB; a JPEG that already has this size is stored as it is",
    )
    command.add_argument(
        "--quality", help=f"quality of the files of --jpeg, from 1 to 100 (default: {QUALITY})", **number
    )
    command.add_argument("--workers", help="number of worker processes (default: one per processor)", **number)
    command.add_argument(
        "--seed",
        default=0,
        help="random seed of the order of the images, of --subset and of --test-share (default: 0)",
        **number,
    )
    command.add_argument(
        "--subset",
        metavar="N[xM]",
        help="use only N classes, and at most M images of each per split, to try things out",
    )
    command.add_argument(
        "--test-share",
        type=float,
        default=0.0,
        metavar="F",
        help="if the sources have no test images: the fraction of images to test on, from 0 to 1 (default: 0)",
    )
    command.add_argument(
        "--test-set",
        choices=("val", "test"),
        help="which images to test on if there are both; test images need no labels then: `tinyalex evaluate --write` "
        "classifies them (default: validation images, unless the contest's ground truth of the test images is given)",
    )
    command.add_argument(
        "--mean-from",
        type=user_path,
        metavar="SET",
        help="use the mean image and colour statistics of another prepared set",
    )
    command.add_argument(
        "--max-bad",
        default="0.01%",
        metavar="N|P%",
        help="stop if more images than this cannot be decoded (default: 0.01%%, but at least one image)",
    )
    command.add_argument(
        "--numeric-folders",
        action="store_true",
        help="the names of the class folders are positions, from 0, in the list of classes (synset_words.txt)",
    )
    command.add_argument(
        "--verify-md5",
        action="store_true",
        help="accept only archives with a known MD5 sum: those of ILSVRC-2012, Tiny ImageNet and CIFAR",
    )
    command.add_argument("--most-files", help="stop if a source has more than N files (default: 1600000)", **number)


def run(options):
    """Prepare the set and print what it contains."""
    from tinyalex.datasets import survey
    from tinyalex.datasets.index import sources, subset
    from tinyalex.devices import parallel
    from tinyalex.prepare.pipeline import Settings, start
    from tinyalex.prepare.plan import usual_size

    _check(options)
    options.quality = (options.quality or QUALITY) if options.jpeg else None
    classes, per_class = subset.parse(options.subset) if options.subset else (None, None)
    sources.check_output(options.sources, options.out)
    names = [os.fsencode(Path(os.path.realpath(source)).name).decode("utf-8", "replace") for source in options.sources]
    chosen = {name: getattr(options, name) for name in Settings._fields}
    chosen["workers"] = options.workers or parallel.processors()
    out = Path(options.out)
    with start(out, Settings(**chosen), print_if_possible) as preparation:
        index = sources.index(
            options.sources,
            preparation.scratch,
            print_if_possible,
            test_share=options.test_share,
            seed=options.seed,
            classes=classes,
            per_class=per_class,
            numeric_folders=options.numeric_folders,
            verify_md5=options.verify_md5,
            most=options.most_files or sources.MOST,
            test_set=options.test_set,
        )
        if not index.splits["test"]:
            advice = "--test-share 0.1 takes a tenth of every class for them"
            if options.test_share:
                advice = "no class has enough images to spare one; give more of them, or a larger --test-share"
            print_line(f"warning: no test images, which training needs; {advice}")
        size = options.size or usual_size(index.kind)
        for line in survey.enlargement(survey.of_index(index, decode=False), size, "--size"):
            print_line(line)
        made = preparation.make(index, names)
    for line in _summary(made, out):
        print_line(line)


def _check(options):
    ranges = {"size": (1, 4096), "quality": (1, 100), "workers": (1, 1024), "seed": (0, 2**63 - 1)}
    for name, (low, high) in (ranges | {"most_files": (1, 2**40)}).items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} {value}: give a number from {low} to {high}")
    if options.quality and not options.jpeg:
        raise UsageError(f"--quality {options.quality}: is that of JPEG files; add --jpeg, or leave it out")


def _summary(made, out):
    from tinyalex.datasets.shards import manifest, verify
    from tinyalex.prepare.complete import SKIPPED, cautions, left_out
    from tinyalex.prepare.sheet import NAME

    counts = {split: part["count"] for split, part in made["splits"].items()}
    without = " without labels" if manifest.is_unlabelled(made) else ""
    yield (
        f"{out}: {made['kind']}, {counts['train']:,} training and {counted(counts['test'], 'test image')}{without} of "
        f"{made['size']} x {made['size']}, {counted(len(made['classes']), 'class')}; identity {made['identity'][:8]}"
    )
    for split, complete in _COMPLETE.get(made["kind"], {}).items():
        if counts[split] and not any(each.startswith(f"{counts[split]:,} ") for each in complete):
            yield f"not all of {made['kind']}, which has {' and '.join(complete)} images"
    if made["odd"]:
        kinds = {name: "with decoder warnings" if name == "warnings" else name for name in made["odd"]}
        odd = ", ".join(f"{count:,} {kinds[name]}" for name, count in made["odd"].items())
        yield f"not plain colour JPEGs, but used like the others: {odd}"
    if "jpeg" in made:
        yield verify.jpeg_line(made)
    if line := left_out(made, out):
        yield line
    elif (out / SKIPPED).exists():
        yield f"{out / SKIPPED} lists the files that were skipped"
    yield from cautions(made)
    if made["statistics"]["from"] == "test":
        yield "warning: mean image and colours are computed from the test images; to use a training set's: --mean-from"
    for name, version in made["decoder"].items():
        if " and " in version:
            yield f"warning: some images were decoded with {name} {version}; their pixels may differ slightly"
    if (out / NAME).is_file():
        yield f"look at {out / NAME} to check images and class names"
