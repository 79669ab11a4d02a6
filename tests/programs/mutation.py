"""Mutation testing: change one thing in the core, again and again, and see whether its tests object.

    python -m tests.programs.mutation results.jsonl            all mutants; resumes an earlier run
    python -m tests.programs.mutation results.jsonl --minutes 7
    python -m tests.programs.mutation results.jsonl --report   the results so far

A mutant is one operator, comparison, number, condition or statement of `SUITES`' files changed. Texts for people (in
raise, f-strings, docstrings) are left alone. A mutant that changes no behaviour is no gap in the tests: `EQUIVALENT`
lists those, each with its reason, by the line that it changes. The exit code is 1 when fewer than 90 % of the others
are noticed.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import inspect
import json
import os
import sys
import time
import types
import warnings
from pathlib import Path

from tests.programs.mutation_equivalent import EQUIVALENT

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PATIENCE = 90  # seconds; a mutant that takes longer is stuck and counts as noticed
CONTROL = "as it is"  # the unchanged source, which all tests must pass
CHECKS = "the quick checks"
LAYER = (CHECKS, "layers/test_layers.py", "layers/test_loops.py", "network/test_alexnet.py")
FAST = (CHECKS, "kernels/test_fast_forms.py")
SUITES = {  # file: the tests to run, the quickest first
    "kernels/cpu/activation.py": FAST,
    "kernels/cpu/first_convolution.py": FAST,
    "kernels/cpu/pooling.py": FAST,
    "kernels/cpu/response.py": FAST,
    "kernels/cpu/winograd.py": FAST,
    "labels.py": ("layers/test_labels.py", "datasets/test_datasets.py"),
    "layers/activation.py": LAYER,
    "layers/convolution.py": LAYER,
    "layers/dropout.py": LAYER,
    "layers/layer.py": ("layers/test_arguments.py", *LAYER, "network/test_network.py"),
    "layers/linear.py": LAYER,
    "layers/loss.py": (*LAYER, "layers/test_labels.py"),
    "layers/normalization.py": LAYER,
    "layers/patches.py": LAYER,
    "layers/pooling.py": LAYER,
    "network/columns.py": (CHECKS, "network/test_columns.py", "network/test_network.py"),
    "training/optimizer.py": (
        CHECKS,
        "training/test_optimizer.py",
        "kernels/test_kernels.py::test_three_steps_of_a_whole_network",
    ),
    "randomness.py": ("test_randomness.py", CHECKS),
    "runs/checkpoint.py": (
        "runs/test_checkpoint.py",
        "runs/test_damage.py::test_c8_all_differences_are_reported_and_nothing_is_loaded",
        "runs/test_damage.py::test_c16_resuming_from_weights_is_refused",
        "runs/test_damage.py::test_c17_file_is_flushed_before_it_is_renamed",
        "runs/test_damage.py::test_c2_checkpoint_is_not_started_without_room",
    ),
}
SWAPS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitXor: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or,
    ast.Or: ast.And, ast.UAdd: ast.USub,
}  # fmt: skip


def _changes(node):
    # Yield, for one node, its replacements.
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPS:
        yield _with(node, op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield _with(node, ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _with(node, value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield _with(node, value=node.value + 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield _with(node, value=node.value * 1.5 + 0.5)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _with(node, value=node.value + "x")
    elif isinstance(node, ast.IfExp | ast.If | ast.While) and not isinstance(node.test, ast.UnaryOp):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Return) and node.value is not None:
        yield _with(node, value=ast.Constant(None))
    elif isinstance(node, ast.Expr | ast.Raise | ast.Continue | ast.Break) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    ):
        yield ast.copy_location(ast.Pass(), node)
    if isinstance(node, ast.AugAssign):
        yield ast.copy_location(ast.Pass(), node)


def _with(node, **fields):
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return ast.fix_missing_locations(ast.copy_location(changed, node))


def mutants(path):
    """Yield (name, source) of every mutant of a file; the name is stable while its line is as it was."""
    source = path.read_text(encoding="utf-8")
    tree, lines, seen = ast.parse(source), source.splitlines(), {}
    for parent, field, index, node in _nodes(tree):
        for changed in _changes(node):
            _put(parent, field, index, changed)
            old, new = (ast.unparse(each).splitlines()[0][:70] for each in (node, changed))
            name = f"{lines[node.lineno - 1].strip()}  [{old} -> {new}]"
            seen[name] = seen.get(name, 0) + 1
            yield name if seen[name] == 1 else f"{name} #{seen[name]}", ast.unparse(tree)
            _put(parent, field, index, node)


def _nodes(tree):
    # Every node with where it hangs, but for texts: docstrings, f-strings, what is raised, annotations.
    for field, value in ast.iter_fields(tree):
        for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(node, ast.AST) or isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
                continue
            if field in ("annotation", "returns"):
                continue
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue
            yield tree, field, index, node
            if not isinstance(node, ast.Raise):
                yield from _nodes(node)


def _put(parent, field, index, node):
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def plant(module, path, source):
    """Change a module that others have imported already: the code of its functions, its classes' attributes."""
    mutated = dict(vars(module))
    exec(compile(source, str(path), "exec"), mutated)
    for name, new in mutated.items():
        old = vars(module).get(name)
        if getattr(new, "__module__", None) == module.__name__ and isinstance(new, type):
            for attribute, changed in vars(new).items():
                if not _same_code(vars(old).get(attribute), changed) and not attribute.startswith("__"):
                    setattr(old, attribute, changed)
                elif attribute == "__init__":
                    _same_code(vars(old)["__init__"], changed)
        elif not _same_code(old, new) and isinstance(new, int | float | str | tuple | dict | frozenset):
            setattr(module, name, new)


def _same_code(old, new):
    # Put one function's code into another, which whoever holds it then calls; tell whether they are functions.
    if isinstance(old, property) and isinstance(new, property):
        _same_code(old.fset, new.fset)
    for kind, part in ((property, "fget"), (classmethod, "__func__"), (staticmethod, "__func__")):
        if isinstance(old, kind) and isinstance(new, kind):
            old, new = getattr(old, part), getattr(new, part)
    if not (isinstance(old, types.FunctionType) and isinstance(new, types.FunctionType)):
        return False
    old, new = inspect.unwrap(old), inspect.unwrap(new)  # behind a decorator, such as `instead`
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


def noticed(file, source):
    """Run a file's tests on a mutant in a child process; tell what ended them: "tests", "time", or "" for nothing."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _tests(file, source)
        finally:
            os._exit(code)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "" if status == 0 else "tests"
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "time"


def _tests(file, source):
    # 0 if nobody objects.
    import pytest

    from tests.support import quick_checks

    module = importlib.import_module("tinyalex." + file.removesuffix(".py").replace("/", "."))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("error")
        plant(module, ROOT / "tinyalex" / file, source)
        if CHECKS in SUITES[file]:
            for check in quick_checks.CHECKS:
                check()
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--rootdir", str(ROOT)]
        options += ["--basetemp", f"/tmp/mutation-{os.getpid()}"]
        return int(pytest.main([*options, *(str(TESTS / test) for test in SUITES[file] if test != CHECKS)]))


def everything():
    """Yield (file, name, source) of all mutants."""
    for file in SUITES:
        path = ROOT / "tinyalex" / file
        yield file, CONTROL, ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
        yield from ((file, name, source) for name, source in mutants(path))


def known(results):
    """Read results: {(file, name): what ended it}."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {(each["file"], each["mutant"]): each["noticed"] for each in map(json.loads, lines)}


def report(found, say=print):
    """Say how many mutants were noticed, and which were not; give the share."""
    valid = [(file, name) for file, name, _ in everything() if name != CONTROL]
    tested = {key: found[key] for key in valid if key in found}
    excused = {key for key in tested if not tested[key] and EQUIVALENT.get(key[0], {}).get(key[1])}
    share = {}
    for file in SUITES:
        its = {key: by for key, by in tested.items() if key[0] == file and key not in excused}
        caught = sum(bool(by) for by in its.values())
        share[file] = caught, len(its)
        untested = sum(key[0] == file for key in valid) - sum(key[0] == file for key in tested)
        equal = sum(key[0] == file for key in excused)
        say(f"{file:24} {caught:4} of {len(its):4} noticed, {equal} equivalent, {untested} not tested yet")
    for (file, name), by in tested.items():
        if not by and (file, name) not in excused:
            say(f"  {file}: {name}")
    for file, name in sorted({(file, name) for file, names in EQUIVALENT.items() for name in names} - set(valid)):
        say(f"  {file}: listed as equivalent, and no mutant any more: {name}")
    caught, count = map(sum, zip(*share.values(), strict=True))
    say(f"{caught} of {count} noticed: {caught / max(count, 1):.1%}; {len(excused)} equivalent; {len(valid)} in all")
    return caught / max(count, 1)


def main():
    """Test the mutants that have not been tested yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--part", default="1/1", metavar="I/N", help="for N processes that share the work")
    parser.add_argument("--only", nargs="+", metavar="FILE", choices=SUITES, help="of these files")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--again", action="store_true", help="test those again that nobody noticed")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    found, end = known(options.results), time.monotonic() + 60 * options.minutes
    if not options.report:
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        sys.path.insert(0, str(ROOT))
        for module in (
            "pytest",
            "tests.support.quick_checks",
            "safetensors.numpy",
            "tinyalex.training.loop",
            "tinyalex.figures",
        ):
            importlib.import_module(module)  # once, for all children
        with options.results.open("a") as file:
            for number, (where, name, source) in enumerate(everything()):
                if where not in (options.only or SUITES) or (name != CONTROL and number % parts != part - 1):
                    continue
                if time.monotonic() > end:
                    break
                if (where, name) in found and not (options.again and not found[where, name]):
                    continue
                found[where, name] = noticed(where, source)
                if name == CONTROL and found[where, name]:
                    raise SystemExit(f"{where}: its tests fail without any mutant")
                file.write(json.dumps({"file": where, "mutant": name, "noticed": found[where, name]}) + "\n")
                file.flush()
    return report(known(options.results)) < 0.9


if __name__ == "__main__":
    sys.exit(main())
