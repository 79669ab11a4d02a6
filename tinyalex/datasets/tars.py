"""Tar archives that nobody has to trust: which members count, and how damage is told.

Nothing is ever extracted, and no member's name is ever used as a path.
"""

import contextlib
import tarfile

from tinyalex.errors import DataError, TinyalexError


def walk(archive):
    """Go through the members of an archive that was just opened, to its very end.

    Parameters
    ----------
    archive : tarfile.TarFile

    Yields
    ------
    tarfile.TarInfo

    Raises
    ------
    tarfile.ReadError
        If the archive ends early, or turns back on itself.
    """
    end = -1
    while (member := archive.next()) is not None:
        archive.members.clear()  # tarfile would keep all of them: a gigabyte and more for ImageNet
        if member.size < 0 or archive.offset <= end:  # negative sizes take tarfile round in circles
            raise tarfile.ReadError(f"a member of {member.size:,} bytes")
        end = archive.offset
        yield member
    # A tar ends with two blocks of zeros; tarfile reads one, and takes a missing or broken one for an end too.
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends early")


def parts(member):
    """Give the parts of a member's name: ("train", "cat", "1.jpg")."""
    return tuple(part for part in member.name.split("/") if part not in ("", "."))


def refusal(member):
    """Say why a member does not count as a file; "" if it does."""
    if not member.isreg() or member.issparse():
        return "not a regular file"
    if member.name.startswith("/") or not parts(member) or any(sign in member.name for sign in ("\\", "\0")):
        return "a name that is no plain path"
    if ".." in parts(member):
        return "a name that climbs out"
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    return ""


@contextlib.contextmanager
def damage(name):
    """Turn whatever reading an archive raises into a DataError about ``name``."""
    try:
        yield
    except TinyalexError:
        raise
    except Exception as error:  # tarfile and the decompressors answer damaged bytes with errors of many kinds
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{name}: cannot be read ({error.strerror}); check its permissions and its disk") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: not a tar archive, or a damaged one ({reason}); fetch it again") from error
