"""What comes before what on pretend devices: their cards, streams, events and memory.

A card does what one stream is asked for in that order. Between two streams there is no order, unless one waits for an
event of the other or the host has waited in between. On a pretend device everything is done at once; clocks tell what a
card might have done in another order (vector clocks: Fidge 1988, Mattern 1988; kept with every access, as Flanagan and
Freund's FastTrack does, 2009). Where two streams touch the same memory in no order, and one writes, a `Race` is raised.

`cuda` has those names of ``cupy.cuda`` that `tinyalex.devices.device` uses.
"""

import contextvars
import itertools
import threading
import types
import weakref
import zlib

_lock = threading.Lock()  # several of the host's threads may speak to one stream
_defaults, _numbers = {}, {}  # of every card: the stream of work that names none; numbers for the others
_here = contextvars.ContextVar("here", default=("fake:0", {}, None))  # current card, cards' streams, what was before


class DeviceMismatch(TypeError):
    """Arrays of different devices, or of a device and the host, met in one operation."""


class Race(RuntimeError):
    """Two operations touch the same memory, one of them writes, and nothing says which comes first."""


class Card:
    """A pretend card; work goes to the one that was entered last, number 0 if there is none."""

    def __init__(self, index):
        self.place = f"fake:{index}"

    def __enter__(self):
        here = _here.get()
        _here.set((self.place, here[1], here))
        return self

    def __exit__(self, *error):
        _here.set(_here.get()[2])


class Stream:
    """A queue of work on the current card; `non_blocking`, it takes no notice of the card's default stream.

    Attributes
    ----------
    count : int
        Goes up with every event: what comes after an event has a higher count than the event.
    waited : dict of Stream to int
        The count up to which this stream has waited for another.
    host : int
        The count up to which the host has waited for this stream.
    freed : list of (access, str)
        What others did to memory that came back to this stream, perhaps before they were done.
    """

    def __init__(self, non_blocking=False):
        self.place = _here.get()[0]
        number = f"stream {next(_numbers.setdefault(self.place, itertools.count(1)))}"
        self.name = f"{self.place} {number if non_blocking else 'default stream'}"
        self.count, self.host, self.waited, self.freed = 1, 0, {}, []
        self._reading = []  # (count, weak reference, checksum) of the host memory that it copies from
        self._writing = []  # (count, array, what it will hold) of the host's

    def __repr__(self):
        return self.name

    def __enter__(self):
        place, streams, _ = here = _here.get()
        if place != self.place:
            raise RuntimeError(f"{self} was entered while {place} is the current device")
        _here.set((place, streams | {place: self}, here))
        return self

    def __exit__(self, *error):
        _here.set(_here.get()[2])

    def record(self, event):
        """Let an event stand for all that this stream was asked for so far."""
        if event.place != self.place:
            raise RuntimeError(f"an event of {event.place} cannot be recorded on {self}")
        with _lock:
            event.reached = self.waited | {self: self.count}
            self.count += 1
        return event

    def wait_event(self, event):
        """Let all that this stream is asked for from now on come after an event."""
        with _lock:
            for stream, count in event.reached.items():
                self.waited[stream] = max(count, self.waited.get(stream, 0))

    def synchronize(self):
        """Let the host wait for all that this stream was asked for."""
        event = Event()
        event.place = self.place
        self.record(event).synchronize()

    def access(self, what):
        """Return what an operation leaves with the memory that it touches: (stream, count, what)."""
        return self, self.count, what

    def comes_after(self, access):
        """Whether what this stream is asked for now comes after an earlier access."""
        stream, count, _ = access
        return stream is self or count <= stream.host or count <= self.waited.get(stream, 0)

    def check(self, access, does, what, did):
        """Raise a Race if an operation of this stream does not come after an earlier access."""
        if not self.comes_after(access):
            raise Race(
                f"{what} on {self} does not wait for {access[2]} on {access[0]}, which may still {did} what it {does}; "
                "let it wait for an event of that stream"
            )

    def read_host(self, array):
        """Take note that this stream copies from host memory, which has to stay as it is until the copy is done."""
        memory = owner(array)
        with _lock:
            self._keep_reading()
            if isinstance(memory, Pinned):  # any other is put aside by the driver before the call returns
                self._reading.append((self.count, weakref.ref(memory), zlib.crc32(memory)))

    def write_host(self, array, values):
        """Take note that this stream copies to a host array, which holds the values when the host has waited."""
        with _lock:
            self._writing.append((self.count, array, values))

    def reached(self, count):
        """Take note that the host knows this stream to have come so far."""
        with _lock:
            self.host = max(self.host, count)
            for _, array, values in (each for each in self._writing if each[0] <= count):
                array[...] = values
            self._writing = [each for each in self._writing if each[0] > count]
            self._keep_reading()
            done = [read for read in self._reading if read[0] <= count]
            self._reading = [read for read in self._reading if read[0] > count]
        if any(zlib.crc32(memory()) != checksum for _, memory, checksum in done):
            raise Race(f"host memory was written to while {self} may still have copied from it; wait for the upload")

    def _keep_reading(self):
        before, self._reading = self._reading, [read for read in self._reading if read[1]() is not None]
        if len(before) > len(self._reading):
            raise Race(f"host memory was given back while {self} may still have copied from it; wait for the upload")


class Event:
    """A place in a stream's queue, once it was recorded there."""

    def __init__(self, disable_timing=False):
        self.place, self.reached = _here.get()[0], {}

    def synchronize(self):
        """Let the host wait for it."""
        for stream, count in list(self.reached.items()):
            stream.reached(count)


class Pinned(bytearray):
    """Host memory that a stream reads when it comes to the copy, not when it is asked for it."""


class Memory:
    """What all views of an array share: who wrote to it last, and who has read it since.

    It comes from the stream that is current, and goes back there when nobody holds it any more. The next array of that
    stream may get it, as in CuPy's pool: what others asked for before that has to come before.

    Parameters
    ----------
    array : ndarray
    stream : Stream
        The current one of its device.
    what : str
        The operation that asks for it, which counts as writing to it: whatever had the memory before is in that stream.
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
        """Take note of an operation that reads it."""
        stream, write = access[0], self.write
        if write is not None and write[0] is not stream:
            stream.check(write, "reads", access[2], "write")
        self.reads[stream] = access

    def to_write(self, access):
        """Take note of an operation that writes to it."""
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
    """Return what the memory of an array belongs to; all its views have the same."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def current(place):
    """Return the stream that work on a device's arrays goes to."""
    here, streams, _ = _here.get()
    if place != here:
        raise DeviceMismatch(f"work on {place} while {here} is the current device; do it inside `with device:`")
    if place in streams:
        return streams[place]
    if place not in _defaults:
        _defaults[place] = Stream()
    return _defaults[place]


cuda = types.SimpleNamespace(Device=Card, Stream=Stream, Event=Event, alloc_pinned_memory=Pinned)
