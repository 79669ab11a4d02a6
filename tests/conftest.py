"""What all tests share: the devices to run on, and real data if there is some."""

import os
from pathlib import Path

import pytest

from tests.support import cuda_convnet_files, shim


@pytest.fixture(params=["cpu", "cpu kernels", "fake:0", "kernels", "cuda:0", "cuda:0 kernels"])
def device(request):
    """Each kind of device in turn (`shim.device`); a GPU only where there is one."""
    with shim.device(request.param) as device:
        yield device


@pytest.fixture(scope="session")
def test_data():
    """The folder that TINYALEX_TEST_DATA names."""
    folder = os.environ.get("TINYALEX_TEST_DATA")
    if not folder:
        pytest.skip("TINYALEX_TEST_DATA is not set: give a folder with cifar10-jpeg.tar.xz and the like")
    return Path(folder)


def pytest_ignore_collect(collection_path, config):
    """Who does an exercise (``pytest -m ex04``) need not wait for everything here to be collected."""
    return True if config.option.markexpr.startswith("ex") else None


@pytest.fixture(scope="session")
def cuda_convnet(test_data, tmp_path_factory):
    """A folder with the configuration files of cuda-convnet, extracted from the test data."""
    archive = test_data / cuda_convnet_files.ARCHIVE
    if not archive.is_file():
        pytest.skip(f"TINYALEX_TEST_DATA has no {archive.name}")
    return cuda_convnet_files.extract(archive, tmp_path_factory.mktemp("cuda-convnet"))
