"""Rules about the structure of the package, read from its source: who may import whom, what a module may contain."""

import ast
import doctest
import graphlib
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinyalex

ROOT = Path(tinyalex.__file__).parent


def module_name(path):
    """The dotted name of a source file below the package's folder."""
    return ".".join(["tinyalex", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


TREES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}

# Each folder of the package, and the folders that it may import besides itself, the four modules that all may import,
# and the version.
MAY_IMPORT = {
    "errors": (),
    "labels": (),
    "words": (),
    "randomness": (),
    "recipes": (),
    "claims": (),
    "ranks": ("devices",),
    "system": (),
    "devices": (),
    "kernels": ("devices",),
    "layers": ("kernels", "devices"),
    "network": ("layers", "ranks", "kernels", "devices", "recipes"),
    "datasets": ("kernels", "devices", "system"),
    "training": ("network", "datasets", "layers", "ranks", "kernels", "devices", "recipes"),
    "runs": ("training", "network", "ranks", "datasets", "devices", "recipes", "system"),
    "explain": ("network", "layers", "devices", "datasets"),
    "gradcheck": ("network", "layers", "devices", "recipes"),
    "figures": ("layers", "system"),
    "gallery": ("runs", "training", "network", "layers", "datasets", "recipes", "figures", "explain"),
    "report": (*("runs", "training", "network", "datasets", "recipes", "system", "figures", "gallery", "explain"),),
    "experiments": ("runs", "training", "ranks", "datasets", "recipes", "system", "figures"),
    "prepare": ("datasets", "system", "figures"),
    "bench": ("training", "network", "layers", "devices", "recipes", "system", "figures"),
    "interop": ("runs", "training", "network", "layers", "recipes", "system"),
    "commands": (
        *("bench", "claims", "datasets", "devices", "experiments", "explain", "figures", "gallery", "gradcheck"),
        *("interop", "network", "prepare", "ranks", "recipes", "report", "runs", "system", "training"),
    ),
    "cli": ("commands", "devices", "ranks"),
    "__main__": ("cli",),
}
EVERYWHERE = {"", "errors", "labels", "randomness", "words"}


def folder(module):
    """The first name below the package: ``layers`` of ``tinyalex.layers.pooling``; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports(trees):
    """The modules of the package that each module imports, anywhere in its source, also inside functions."""
    found = {}
    for module, tree in trees.items():
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= whole & trees.keys() or {node.module}
        found[module] = (names & trees.keys()) - {module}
    return found


def refused(trees):
    """Imports that `MAY_IMPORT` does not allow, as pairs of modules."""
    return [
        (module, other)
        for module, others in imports(trees).items()
        for other in sorted(others)
        if module != "tinyalex"
        and folder(other) not in EVERYWHERE | {folder(module)}
        and folder(other) not in MAY_IMPORT[folder(module)]
    ]


def circle(trees):
    """A circle of imports between modules, or None."""
    try:
        graphlib.TopologicalSorter({m: o for m, o in imports(trees).items() if m != "tinyalex"}).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_every_folder_has_its_import_rule():
    assert {folder(module) for module in TREES} - {""} == MAY_IMPORT.keys()


def test_no_module_imports_what_its_folder_may_not():
    assert refused(TREES) == []


def test_every_allowed_import_is_used():
    used = {(folder(module), folder(other)) for module, others in imports(TREES).items() for other in others}
    assert [(a, b) for a, others in MAY_IMPORT.items() for b in others if (a, b) not in used] == []


def test_no_module_imports_itself_through_others():
    assert circle(TREES) is None


@pytest.mark.parametrize("module, line", [
    ("tinyalex.layers.pooling", "from tinyalex.datasets import dataset"),
    ("tinyalex.kernels.update", "from tinyalex.layers.layer import Layer"),
    ("tinyalex.training.loop", "def f():\n    from tinyalex.runs import checkpoint"),
    ("tinyalex.system.lock", "import tinyalex.devices.device"),
    ("tinyalex.runs.run_folder", "from tinyalex import commands"),
])  # fmt: skip
def test_a_planted_import_is_noticed(module, line):
    planted = ast.Module([*TREES[module].body, *ast.parse(line).body], [])
    assert [pair[0] for pair in refused(TREES | {module: planted})] == [module]


def test_a_planted_circle_is_noticed():
    planted = ast.Module(
        [*TREES["tinyalex.layers.layer"].body, *ast.parse("from tinyalex.layers import linear").body], []
    )
    assert {"tinyalex.layers.layer", "tinyalex.layers.linear"} <= set(
        circle(TREES | {"tinyalex.layers.layer": planted})
    )


def top_level_imports(tree):
    """The first name of everything that a module imports, also inside functions and by ``import_module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (arg.value.split(".")[0] for arg in node.args if isinstance(arg, ast.Constant))


CUPY = {"cupy", "cupyx", "cupy_backends"}
TORCH = {"tinyalex.bench.pytorch.torch_side", "tinyalex.bench.pytorch.torch_twin"}  # what `bench` compares with


def test_one_module_imports_cupy():
    assert [name for name, tree in TREES.items() if CUPY & set(top_level_imports(tree))] == ["tinyalex.devices.cuda"]


def test_only_bench_imports_pytorch_and_only_when_it_runs():
    assert {name for name, tree in TREES.items() if "torch" in top_level_imports(tree)} == TORCH
    for name in TORCH:
        when_loaded = [node for node in TREES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "torch" not in top_level_imports(ast.Module(when_loaded, []))


def test_dependencies_are_the_declared_ones():
    allowed = {
        "tinyalex",
        "numpy",
        "PIL",
        "matplotlib",
        "tqdm",
        "threadpoolctl",
        "safetensors",
    } | sys.stdlib_module_names
    more = {"tinyalex.datasets.zstd": {"zstandard"}, "tinyalex.devices.cuda": CUPY, "tinyalex.ranks.world": {"mpi4py"}}
    more |= dict.fromkeys(TORCH, {"torch"})
    more |= {name: {"onnx"} for name in TREES if name.startswith("tinyalex.interop.onnx_")}
    more |= {"tinyalex.interop.caffe_messages": {"google"}}
    others = {name: set(top_level_imports(tree)) - allowed - more.get(name, set()) for name, tree in TREES.items()}
    assert {name: found for name, found in others.items() if found} == {}


def test_randomness_is_the_only_source_of_random_numbers():
    for name, tree in TREES.items():
        assert not {"random", "secrets", "uuid"} & set(top_level_imports(tree)), name
        for node in ast.walk(tree):
            attribute = isinstance(node, ast.Attribute) and node.attr in ("random", "default_rng", "RandomState")
            assert not attribute, f"{name}: {node.lineno}"
            assert not (isinstance(node, ast.ImportFrom) and node.module == "numpy.random"), f"{name}: {node.lineno}"


def test_layers_name_no_array_module():
    names = {name for name in TREES if name.startswith("tinyalex.layers.") and ".loops" not in name}
    names -= {"tinyalex.layers.cook_toom", "tinyalex.layers.initialization"}  # these compute on the host
    assert [name for name in sorted(names) if {"numpy", "cupy"} & set(top_level_imports(TREES[name]))] == []


def test_every_module_and_every_public_name_has_a_docstring():
    for name, tree in TREES.items():
        assert ast.get_docstring(tree) or not tree.body, name
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{name}.{node.name}"


# What importing costs.


def modules_after(code):
    """The first names of all modules that a new process has loaded after some code."""
    code = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", [
    "import tinyalex",
    "import tinyalex.cli",
    "import tinyalex\ntinyalex.alexnet.describe(tinyalex.recipe.load('original').net)",
    "import tinyalex.layers, tinyalex.training.optimizer, tinyalex.randomness",
])  # fmt: skip
def test_importing_needs_numpy_and_nothing_else(code):
    extra = modules_after(code) - modules_after("") - sys.stdlib_module_names
    assert "tinyalex" in extra
    assert {name for name in extra if not name.startswith("_")} <= {"tinyalex", "numpy"}


def test_every_module_can_be_imported():
    names = [module.name for module in pkgutil.walk_packages([str(ROOT)], "tinyalex.")]
    assert set(names) == TREES.keys() - {"tinyalex"}
    modules_after(
        "import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names if "__main__" not in n)
    )


# What `import tinyalex` offers.


def test_public_names_are_listed_and_found():
    for name in tinyalex.__all__:
        assert getattr(tinyalex, name) is not None, name
    assert set(tinyalex.__all__) <= set(dir(tinyalex))
    with pytest.raises(AttributeError, match="module 'tinyalex' has no attribute 'alexnett'"):
        tinyalex.alexnett  # noqa: B018


def test_type_checkers_see_the_public_names():
    block = next(node for node in TREES["tinyalex"].body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        for alias in node.names:
            is_module = f"{node.module}.{alias.name}" in TREES
            path = f"{node.module}{'.' if is_module else ':'}{alias.name}".removeprefix("tinyalex.")
            seen[alias.asname or alias.name] = path
    assert seen == tinyalex._PUBLIC
    assert sorted(seen) == tinyalex.__all__


def test_the_examples_in_docstrings_print_what_they_say():
    examples = 0
    for name in TREES:
        if name != "tinyalex.__main__":
            result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
            assert result.failed == 0, name
            examples += result.attempted
    assert examples > 0
