"""Bytes that take a while: read block by block, with a progress bar on a terminal."""

_BLOCK = 1 << 18  # bytes


def pump(read, sinks, name, total=None, done=None):
    """Read to the end, and hand every block to each of the sinks.

    Parameters
    ----------
    read : function of a number of bytes
        Gives at most so many, and none at the end.
    sinks : sequence of functions of bytes
        ``file.write``, ``digest.update``.
    name : str
        What the bar says.
    total : int, optional
        Bytes to come.
    done : function, optional
        Says how far we are, where that is not the bytes read so far: in a compressed file.
    """
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
        while block := read(_BLOCK):
            for sink in sinks:
                sink(block)
            bar.update(done() - bar.n if done else len(block))
