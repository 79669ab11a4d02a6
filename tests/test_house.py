"""The house rules that a machine can check."""

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinyalex

ROOT = Path(tinyalex.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_there_is_something_to_check():
    assert {"devices/device.py", "network/network.py", "layers/convolution.py"} <= TREES.keys()


def test_the_reading_fits_in_an_afternoon():
    names = [
        "network/columns.py",
        "network/network.py",
        "network/alexnet.py",
        "training/optimizer.py",
        "training/loop.py",
    ]
    files = [ROOT / name for name in names] + sorted((ROOT / "layers").rglob("*.py"))
    assert len(files) > 12
    assert sum(map(lines, files)) < 1500


@pytest.mark.parametrize("path", FILES, ids=TREES)
def test_no_file_is_too_long(path):
    assert lines(path) <= 250
    assert max(map(len, path.read_text(encoding="utf-8").splitlines()), default=0) <= 120


def imported(tree):
    """Yield the top-level name of everything a file imports, wherever it does so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (arg.value.split(".")[0] for arg in node.args if isinstance(arg, ast.Constant))


def test_one_file_imports_cupy():
    assert [name for name, tree in TREES.items() if {"cupy", "cupyx", "cupy_backends"} & set(imported(tree))] == [
        "devices/cuda.py"
    ]


OPPONENTS = {
    "bench/pytorch/torch_side.py",
    "bench/pytorch/torch_twin.py",
}  # what `bench` compares with, where it is installed


def test_pytorch_is_imported_to_be_measured_and_only_then():
    assert {name for name, tree in TREES.items() if "torch" in imported(tree)} == OPPONENTS
    for name in OPPONENTS:
        at_once = [node for node in TREES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "torch" not in imported(ast.Module(at_once, []))


@pytest.mark.parametrize("name", TREES)
def test_dependencies_are_the_promised_ones(name):
    allowed = {
        "tinyalex",
        "numpy",
        "PIL",
        "matplotlib",
        "tqdm",
        "threadpoolctl",
        "safetensors",
        "cupy",
        "cupy_backends",
    }
    allowed |= {"torch"} if name in OPPONENTS else set()
    assert set(imported(TREES[name])) <= allowed | sys.stdlib_module_names


@pytest.mark.parametrize("name", TREES)
def test_all_chance_comes_from_randomness(name):
    assert not {"random", "secrets", "uuid"} & set(imported(TREES[name]))
    for node in ast.walk(TREES[name]):
        assert not (isinstance(node, ast.Attribute) and node.attr in ("random", "default_rng", "RandomState")), (
            node.lineno
        )
        assert not (isinstance(node, ast.ImportFrom) and node.module == "numpy.random"), node.lineno


@pytest.mark.parametrize("name", sorted(name for name in TREES if name.startswith("layers/")))
def test_layers_name_no_array_module(name):
    assert not {"numpy", "cupy"} & set(imported(TREES[name]))
    elsewhere = {"optimizer", "network", "columns", "training", "checkpoint", "pathlib", "threading", "os", "io"}
    modules = {node.module.split(".")[-1] for node in ast.walk(TREES[name]) if isinstance(node, ast.ImportFrom)}
    assert not elsewhere & (modules | set(imported(TREES[name])))


@pytest.mark.parametrize("name", TREES)
def test_docstrings(name):
    assert ast.get_docstring(TREES[name]) or not TREES[name].body, "the file says nothing about itself"
    for node in TREES[name].body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} says nothing about itself"


# Imports are quick because they are few.


def modules_after(code):
    env = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import tinyalex",
        "import tinyalex.cli",
        "from tinyalex.network import alexnet\nfrom tinyalex.recipes import recipe\nalexnet.describe(recipe.load('original').net)",
        "import tinyalex.layers, tinyalex.training.optimizer, tinyalex.randomness",
    ],
)
def test_importing_needs_numpy_and_nothing_else(code):
    extra = modules_after(code) - modules_after("") - sys.stdlib_module_names
    assert "tinyalex" in extra
    assert {name for name in extra if not name.startswith("_")} <= {"tinyalex", "numpy"}


def test_every_module_can_be_imported():
    names = [module.name for module in pkgutil.walk_packages([str(ROOT)], "tinyalex.")]
    assert "tinyalex.layers.lrn" in names or "tinyalex.layers.normalization" in names
    modules_after(
        "import importlib\n" + "\n".join(f"importlib.import_module({n!r})" for n in names if "__main__" not in n)
    )
