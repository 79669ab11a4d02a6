"""Write a run's weights into one file: of tinyalex, of ONNX, which other programs run, or compressed."""

from functools import partial
from pathlib import Path

from tinyalex.commands.common import (
    check_classes,
    load_dataset_of_run,
    load_run,
    print_line,
    score_line,
    which_checkpoint,
)  # fmt: skip
from tinyalex.commands.options import DATA, RUN, checkpoint, several, test_share, user_path
from tinyalex.errors import UsageError
from tinyalex.words import counted

_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "deep-compression": ".net"}  # by format
_COMPRESSING = ("keep", "threshold", "codebook", "data", "test_share")  # options of deep compression


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", type=user_path, metavar="RUN", help=RUN)
    command.add_argument(
        "file", type=user_path, metavar="FILE", help="file to write; its name must end in .safetensors, .onnx or .net"
    )
    checkpoint(command, best=True)
    command.add_argument(
        "--format",
        choices=tuple(_ENDINGS),
        help="safetensors: weights, classes, recipe and mean image, for the commands of tinyalex; onnx: the same, and "
        "the net as a graph that reads images (n, 3, S, S), RGB, 0 to 255; deep-compression: pruned weights alone, "
        "with a codebook for each layer (default: by the ending of FILE)",
    )
    compression = command.add_argument_group("deep compression (FILE.net)")
    several(
        command,
        "--keep",
        fits=lambda word: _shares(word, None) is not None,
        metavar="SHARE",
        help="share of the weights that are kept, the largest ones: of all layers, 0.5, or of some, fc6=0.1 fc7=0.1; "
        "or paper: the shares of AlexNet in the paper, which trains the net again after that (default: 1)",
    )
    compression.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="instead, keep the weights that are as large as T standard deviations of their layer",
    )
    compression.add_argument(
        "--codebook",
        choices=("kmeans", "linear"),
        help="values of the weights that are kept: centres by k-means, or equal steps (default: kmeans)",
    )
    compression.add_argument(
        "--data", type=user_path, metavar="DIR", help=f"also measure the test error before and after: {DATA}"
    )
    test_share(compression, "the run's")


def run(options):
    """Write weights, classes, recipe and mean image into a file."""
    path = Path(options.file)
    given = next((name for name, ending in _ENDINGS.items() if path.suffix == ending), None)
    name = options.format or given
    if name is None:
        raise UsageError(f"{path}: the name does not end in .safetensors, .onnx or .net; give one that does")
    if given != name:
        raise UsageError(f"{path}: the name does not end in {_ENDINGS[name]}, as --format {name}; give one that does")
    for key in _COMPRESSING if name != "deep-compression" else ():
        if getattr(options, key) is not None:
            raise UsageError(f"--{key.replace('_', '-')}: is for deep compression; give a FILE that ends in .net")
    check, write = _writer(name, options)
    check(path)
    run = load_run(options.run, best=options.best)
    write(run, path)
    size, classes = path.stat().st_size, counted(len(run.classes), "class")
    print_line(f"{path}: {size:,} bytes, weights after {which_checkpoint(run)}, {classes}")
    if name == "onnx":
        side = run.recipe.net.input
        print_line(f"  input: images, float32 (n, 3, {side}, {side}), RGB, 0 to 255; outputs: logits, probabilities")


def _writer(name, options):
    # What checks that a format's file can be written, and what writes it.
    if name == "deep-compression":
        from tinyalex.interop import deep_compression

        return deep_compression.check_target, partial(_compress, options)
    if name == "onnx":
        from tinyalex.interop import onnx_format

        return onnx_format.check_target, onnx_format.write
    from tinyalex.runs import run_folder

    return run_folder.check_export, run_folder.export


def _compress(options, run, path):
    # Prune, quantize and write; print what it did to each layer, and with --data to the test error.
    from tinyalex.interop import deep_compression

    weights = deep_compression.weights_of(run)
    kept = _kept(options, weights)
    images = check_classes(run, load_dataset_of_run(run, options)).need("test") if options.data is not None else None
    pruned = {layer: (deep_compression.prune(W, kept[layer]), b) for layer, (W, b) in weights.items()}
    content, reports = deep_compression.encode(weights, pruned, options.codebook or "kmeans")
    deep_compression.write(content, path)
    print_line(
        f"{'layer':<8}{'weights':>12}{'kept':>9}{'bytes':>12}{'error pruned':>14}{'and quantized':>15}{'largest':>10}"
    )
    for row in reports:
        print_line(
            f"{row.layer:<8}{row.weights:>12,}{row.kept / row.weights:>9.1%}{row.stored:>12,}{row.pruned:>14.2%}"
            f"{row.quantized:>15.2%}{row.largest:>10.2%}"
        )
    print_line("errors are relative: the norm of the difference, and the largest difference, of a layer's weights")
    whole = 4 * sum(W.size + b.size for W, b in weights.values())
    print_line(f"{whole:,} bytes in float32 are {len(content):,} here, {whole / len(content):.1f} times fewer")
    if images is None:
        return
    from tinyalex.training import evaluation

    quantized = deep_compression.decode(content, {layer: W.shape for layer, (W, _) in weights.items()})
    for title, state in (("as it is", None), ("pruned", pruned), ("pruned and quantized", quantized)):
        if state is not None:
            run.network.load(deep_compression.state_of(run.recipe.net, state))
        score = evaluation.evaluate(run.network, images, run.mean, run.recipe)
        print_line(f"{title}: {score_line(score, len(run.classes))}")


def _kept(options, weights):
    # The share of weights to keep, for each layer.
    from tinyalex.interop import deep_compression

    if options.threshold is not None:
        if options.keep:
            raise UsageError("--keep and --threshold: both say what is kept; give one")
        if not 0 <= options.threshold < float("inf"):
            raise UsageError(f"--threshold {options.threshold}: give 0 or more standard deviations")
        return {layer: deep_compression.share_above(W, options.threshold) for layer, (W, _) in weights.items()}
    kept = dict.fromkeys(weights, 1.0)
    for word in options.keep or ():
        shares = _shares(word, weights)
        if shares is None:
            names = ", ".join(weights)
            raise UsageError(f"--keep {word}: give paper, a share from 0 to 1, or one of a layer of {names}: fc6=0.1")
        kept |= shares
    return kept


def _shares(word, layers):
    # What a value of --keep says, {layer: share}; None if it is no such value. Without layers any name will do.
    from tinyalex.interop import deep_compression

    if word == "paper":
        return deep_compression.KEPT
    layer, equals, share = word.rpartition("=")
    try:
        if not 0 <= float(share) <= 1 or (equals and layers is not None and layer not in layers):
            return None
    except ValueError:
        return None
    return {layer: float(share)} if equals else dict.fromkeys(layers or (), float(share))
