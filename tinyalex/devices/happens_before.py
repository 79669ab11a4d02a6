"""Race detection on fake devices: their device objects, streams, events and memory.

A GPU executes the work of one stream in order. Between two streams there is no order unless one waits for an event of
the other, or the host waits in between. A fake device executes everything at once and records, by vector clocks (Fidge
1988, Mattern 1988; kept with every access, as in Flanagan and Freund's FastTrack, 2009), what a GPU might have executed
in another order. If two streams access the same memory without an order between them, and one writes, a `Race` is
raised.

`cuda` stands for ``cupy.cuda`` and has the names that `tinyalex.devices.device` uses.
"""

import contextvars
import itertools
import os
import threading
import types
import weakref
import zlib
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()  # several host threads may use one stream
_defaults: dict[str, "Stream"] = {}  # by device: its default stream
_numbers: dict[str, Iterator[int]] = {}  # by device: numbers for its other streams
_Here = tuple[str, dict[str, "Stream"], Any]
_here: contextvars.ContextVar[_Here] = contextvars.ContextVar(
    "here", default=("fake:0", {}, None)
)  # current device, streams by device, the context before


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held the old one, and does not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class DeviceMismatch(TypeError):
    """Arrays of different devices, or of a device and the host, met in one operation."""


class Race(RuntimeError):
    """Two operations access the same memory, at least one writes, and neither is ordered before the other."""


class FakeCudaDevice:
    """Stands for ``cupy.cuda.Device``: the one entered last is the current device, number 0 at first."""

    def __init__(self, index):
        self.device_name = f"fake:{index}"

    def __enter__(self):
        here = _here.get()
        _here.set((self.device_name, here[1], here))
        return self

    def __exit__(self, *error):
        _here.set(_here.get()[2])


class Stream:
    """A queue of work on the current device; a `non_blocking` one is not ordered with the default stream.

    Attributes
    ----------
    count : int
        Increases with every event, so that work after an event has a higher count than the event.
    waited : dict of Stream to int
        For each other stream, the count up to which this stream has waited for it.
    host : int
        The count up to which the host has waited for this stream.
    freed : list of (access, str)
        Accesses of other streams to memory that was freed to this stream, perhaps before they were done.
    """

    def __init__(self, non_blocking=False):
        self.device_name = _here.get()[0]
        number = f"stream {next(_numbers.setdefault(self.device_name, itertools.count(1)))}"
        self.name = f"{self.device_name} {number if non_blocking else 'default stream'}"
        self.count, self.host, self.waited, self.freed = 1, 0, {}, []
        self._reading = []  # (count, weak reference, checksum) of the host memory that it copies from
        self._writing = []  # (count, the host memory's owner, array in it, what it will hold)

    def __repr__(self):
        return self.name

    @property
    def ptr(self):
        """Stands for the stream's address, which NCCL takes."""
        return self

    def __enter__(self):
        device_name, streams, _ = here = _here.get()
        if device_name != self.device_name:
            raise RuntimeError(f"{self} was entered while {device_name} is the current device")
        _here.set((device_name, streams | {device_name: self}, here))
        return self

    def __exit__(self, *error):
        _here.set(_here.get()[2])

    def record(self, event):
        """Let an event stand for all work launched on this stream so far."""
        if event.device_name != self.device_name:
            raise RuntimeError(f"an event of {event.device_name} cannot be recorded on {self}")
        with _lock:
            event.reached = self.waited | {self: self.count}
            self.count += 1
        return event

    def wait_event(self, event):
        """Order all work launched on this stream from now on after an event."""
        with _lock:
            for stream, count in event.reached.items():
                self.waited[stream] = max(count, self.waited.get(stream, 0))

    def synchronize(self):
        """Let the host wait for all work on this stream."""
        event = Event()
        event.device_name = self.device_name
        self.record(event).synchronize()

    def access(self, what):
        """Return the record of an operation that memory keeps: (stream, count, what)."""
        return self, self.count, what

    def comes_after(self, access):
        """Whether work launched on this stream now is ordered after an earlier access."""
        stream, count, _ = access
        return stream is self or count <= stream.host or count <= self.waited.get(stream, 0)

    def check(self, access, does, what, did):
        """Raise a Race if an operation of this stream is not ordered after an earlier access."""
        if not self.comes_after(access):
            raise Race(
                f"{what} on {self} does not wait for {access[2]} on {access[0]}, which may still {did} what it {does}; "
                "let it wait for an event of that stream"
            )

    def read_host(self, array):
        """Record that this stream copies from host memory, which must not change until the copy is done."""
        memory = owner(array)
        with _lock:
            self._keep_reading()
            if isinstance(memory, Pinned):  # the driver copies any other memory before the call returns
                self._reading.append((self.count, weakref.ref(memory), zlib.crc32(memory)))

    def write_host(self, array, values):
        """Record that this stream copies to a host array, which gets the values when the host has waited."""
        memory = owner(array)
        with _lock:
            self._keep_writing()
            kept = weakref.ref(memory) if isinstance(memory, Pinned) else lambda: memory
            self._writing.append((self.count, kept, weakref.ref(array), values))

    def reached(self, count):
        """Record that the host has waited for this stream up to a count."""
        with _lock:
            self.host = max(self.host, count)
            self._keep_writing()
            for _, _, target, values in (each for each in self._writing if each[0] <= count):
                if (array := target()) is not None:
                    array[...] = values
            self._writing = [each for each in self._writing if each[0] > count]
            self._keep_reading()
            done = [read for read in self._reading if read[0] <= count]
            self._reading = [read for read in self._reading if read[0] > count]
        if any(zlib.crc32(memory()) != checksum for _, memory, checksum in done):
            raise Race(f"host memory was written to while {self} may still have copied from it; wait for the upload")

    def _keep_writing(self):
        before, self._writing = self._writing, [write for write in self._writing if write[1]() is not None]
        if len(before) > len(self._writing):
            raise Race(f"host memory was given back while {self} may still write to it; keep it until that has ended")

    def _keep_reading(self):
        before, self._reading = self._reading, [read for read in self._reading if read[1]() is not None]
        if len(before) > len(self._reading):
            raise Race(f"host memory was given back while {self} may still have copied from it; wait for the upload")


class Event:
    """A position in a stream's queue, once it was recorded there."""

    def __init__(self, disable_timing=False):
        self.device_name, self.reached = _here.get()[0], {}

    @property
    def done(self):
        """Whether the host knows that the work before this event has ended."""
        return all(count <= stream.host for stream, count in self.reached.items())

    def synchronize(self):
        """Let the host wait for this event."""
        for stream, count in list(self.reached.items()):
            stream.reached(count)


class Pinned(bytearray):
    """Page-locked host memory: a stream reads it when it executes the copy, not when the copy is launched."""


class Memory:
    """The record that all views of an array share: the last write to its memory, and the reads since.

    Memory is allocated on the current stream and freed to that stream when nothing refers to it any more. As in CuPy's
    pool, the stream's next array may get it, so accesses by other streams must be ordered before that.

    Parameters
    ----------
    array : ndarray
    stream : Stream
        The current stream of its device.
    what : str
        The operation that allocates it, which counts as a write in this stream.
    """

    __slots__ = ("owner", "reads", "stream", "write")

    def __init__(self, array, stream, what):
        self.owner, self.stream = owner(array), stream
        self.write, self.reads = stream.access(what), {}
        if stream.freed:
            freed, stream.freed = stream.freed, []
            for access, did in freed:
                stream.check(access, "takes as new memory", what, did)

    def to_read(self, access):
        """Record an operation that reads the memory."""
        stream, write = access[0], self.write
        if write is not None and write[0] is not stream:
            stream.check(write, "reads", access[2], "write")
        self.reads[stream] = access

    def to_write(self, access):
        """Record an operation that writes to the memory."""
        stream, write = access[0], self.write
        if write is not None and write[0] is not stream:
            stream.check(write, "writes to", access[2], "write")
        for read in list(self.reads.values()):
            if read[0] is not stream:
                stream.check(read, "writes to", access[2], "read")
        self.write, self.reads = access, {}

    def __del__(self):
        stream = self.stream
        if self.write is not None and not stream.comes_after(self.write):
            stream.freed.append((self.write, "write"))
        for read in self.reads.values():
            if not stream.comes_after(read):
                stream.freed.append((read, "read"))


def owner(array):
    """Return the object that owns an array's memory; it is the same for all views."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def current(device_name):
    """Return the current stream of a device."""
    here, streams, _ = _here.get()
    if device_name != here:
        raise DeviceMismatch(f"work on {device_name} while {here} is the current device; do it inside `with device:`")
    if device_name in streams:
        return streams[device_name]
    if device_name not in _defaults:
        _defaults[device_name] = Stream()
    return _defaults[device_name]


cuda = types.SimpleNamespace(Device=FakeCudaDevice, Stream=Stream, Event=Event, alloc_pinned_memory=Pinned)
