"""A fake device that runs CUDA kernels as a GPU does: `tinyalex.devices.fake` finds races between them too."""

from tests.support import shim
from tinyalex.devices import happens_before
from tinyalex.devices.device import Device
from tinyalex.devices.fake import FakeArray
from tinyalex.devices.happens_before import DeviceMismatch


class FakeGPU(Device):
    """A device ``fake:N`` with the kernels of `shim.AnySize` for float32 arrays.

    What a kernel reads and writes is known from its parameters: those that are ``const`` are read.

    Attributes
    ----------
    started : list of str
        Names of the kernels started so far.
    """

    on_host = False

    def __init__(self, name, kernels=True):
        super().__init__(name, kernels)
        self.started, self.memory, self.total = [], 1 << 40, 1 << 40

    def _compile(self, code, name, real, constants):
        start, types = shim.AnySize._compile(self, code, name, real, constants), shim.kernels(code)[name]

        def checked(blocks, threads, arguments):
            access = happens_before.current(self.name).access(name)
            for type_, argument in zip(types, arguments, strict=True):
                if isinstance(argument, FakeArray):
                    if argument.device_name != self.name:
                        raise DeviceMismatch(f"{name} on {self.name} was given an array of {argument.device_name}")
                    memory = argument._memory
                    memory.to_read(access) if type_.startswith("const") else memory.to_write(access)
            start(blocks, threads, [getattr(argument, "_array", argument) for argument in arguments])

        return checked

    @staticmethod
    def _run(*call):
        shim.run(*call)
