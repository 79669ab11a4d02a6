"""Copy a long stream block by block, with a progress bar on a terminal."""

from tinyalex.system import bars

_BLOCK = 1 << 18  # bytes


def copy_blocks(read, sinks, name, total=None, done=None):
    """Read a stream to its end and pass every block to each of the sinks.

    Parameters
    ----------
    read : function of a number of bytes
        Returns at most that many bytes; none at the end.
    sinks : sequence of functions of bytes
        For example ``file.write`` and ``digest.update``.
    name : str
        Text of the progress bar.
    total : int, optional
        Bytes to read.
    done : function, optional
        Returns the progress in bytes, where it is not the bytes read so far: in a compressed file.
    """
    with bars.bar(total=total, unit="B", unit_scale=True, desc=name) as bar:
        while block := read(_BLOCK):
            for sink in sinks:
                sink(block)
            bar.update(done() - bar.n if done else len(block))
