"""What the machine is: whether NumPy's BLAS uses the widest instructions that the processor has."""

import os
import subprocess
import sys

import pytest
import threadpoolctl

from tinyalex.cli import main
from tinyalex.devices import machine

AVX2 = "fpu sse2 avx avx2 fma"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.fixture
def processor(monkeypatch):
    """``processor(flags, kernels, chosen)``: a processor with these flags, and OpenBLAS's kernels for another one."""

    def make(flags, kernels, chosen=None):
        monkeypatch.setattr(machine, "_cpuinfo", lambda key: flags if key == "flags" else "A processor")
        found = [{"user_api": "blas", "internal_api": "openblas", "architecture": kernels, "version": "0.3.30"}]
        monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: found)
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
        if chosen:
            monkeypatch.setenv("OPENBLAS_CORETYPE", chosen)

    return make


@pytest.mark.parametrize("flags, kernels, chosen, remedy", [
    (AVX512, "Haswell", "Haswell", "unset OPENBLAS_CORETYPE"),
    (AVX512, "Nehalem", "Nehalem", "use SSE, but this processor has AVX-512"),
    (AVX2, "Sandybridge", "Sandybridge", "use AVX, but this processor has AVX2"),
    (AVX512, "Prescott", None, "install a newer NumPy"),
    (AVX2, "Katmai", None, "install a newer NumPy"),
    (AVX512, "SkylakeX", None, None),
    (AVX512, "SapphireRapids", "SapphireRapids", None),
    (AVX512, "Zen", None, None),  # OpenBLAS's own choice
    (AVX2, "Haswell", None, None),
    (AVX2, "Zen", "Zen", None),
    ("fpu sse2", "Core2", None, None),
    ("", "neoversen1", None, None),
    (AVX512, None, None, None),
])  # fmt: skip
def test_slow_kernels_of_blas_are_noticed(processor, flags, kernels, chosen, remedy, capsys):
    processor(flags, kernels, chosen)
    line = machine.slow_blas()
    assert (line is None) if remedy is None else (remedy in line)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 11 and (remedy or "may be twice as fast") in printed or remedy is None


def test_a_command_that_computes_says_it_once(processor, capsys):
    processor(AVX512, "Haswell", "Haswell")
    assert main(["evaluate", "nothing"]) == 4
    assert capsys.readouterr().err.count("unset OPENBLAS_CORETYPE") == 1


@pytest.mark.skipif(
    sys.platform != "linux" or "avx512f" not in machine._cpuinfo("flags"), reason="the processor has no AVX-512"
)
@pytest.mark.slow
def test_an_inherited_variable_is_noticed_by_a_real_process():
    words = [sys.executable, "-m", "tinyalex", "doctor"]
    for chosen, slow in (("Haswell", 1), ("SkylakeX", 0)):
        environment = os.environ | {"OPENBLAS_CORETYPE": chosen}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.count("unset OPENBLAS_CORETYPE") == slow
