"""Check that a prepared set is unchanged since tinyalex prepare made it."""

from tinyalex.commands.common import print_line
from tinyalex.commands.options import threads, user_path


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("data", type=user_path, metavar="DATA", help="a folder made by tinyalex prepare")
    command.add_argument(
        "--full",
        action="store_true",
        help="also read every image, compare its hash, and compute the mean image and covariance again "
        "(default: check everything except the pixels)",
    )
    command.add_argument(
        "--speed",
        action="store_true",
        help="also measure for some seconds how fast images are read and decoded, and say how long an epoch takes and "
        "which order and format suit",
    )
    threads(command)


def run(options):
    """Check the set and print a line for each thing checked; damage is raised as errors."""
    from tinyalex.datasets.shards import verify

    verify.verify(options.data, options.full, show=print_line)
    if options.speed:
        from tinyalex.datasets import load, speed
        from tinyalex.network import memory

        images = load(options.data).need("train")
        for line in speed.lines(speed.of_set(images), len(images), images.is_jpeg, memory=memory.host()[1]):
            print_line(line)
    print_line(
        "all of the set is unchanged" if options.full else "all but the pixels is unchanged; --full also checks these"
    )
