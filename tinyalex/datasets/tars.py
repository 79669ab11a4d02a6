"""Read tar archives from untrusted sources: which members are used, and how damage is reported.

Nothing is ever extracted, and no member's name is ever used as a path.
"""

import contextlib
import tarfile

from tinyalex.errors import DataError, TinyalexError


def walk(archive):
    """Iterate over the members of an archive that was just opened, up to its end marker.

    Parameters
    ----------
    archive : tarfile.TarFile

    Yields
    ------
    tarfile.TarInfo

    Raises
    ------
    tarfile.ReadError
        If the archive ends early, or a header points backwards.
    """
    end = -1
    while (member := archive.next()) is not None:
        archive.members.clear()  # else tarfile keeps all of them: more than a gigabyte for ImageNet
        if member.size < 0 or archive.offset <= end:  # a negative size would make tarfile loop
            raise tarfile.ReadError(f"a member of {member.size:,} bytes")
        end = archive.offset
        yield member
    # A tar ends with two blocks of zeros. tarfile stops at the first one, and also at a missing or broken block.
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends early")


def parts(member):
    """Return the parts of a member's name: ("train", "cat", "1.jpg")."""
    return tuple(part for part in member.name.split("/") if part not in ("", "."))


def refusal(member):
    """Return why a member is not used; "" if it is a file, a folder or a link with a name that can be used."""
    if not (member.isreg() or member.isdir() or member.islnk() or member.issym()) or member.issparse():
        return "not a regular file"
    if member.name.startswith("/") or not parts(member) or any(sign in member.name for sign in ("\\", "\0")):
        return "a name that is not a relative path"
    if ".." in parts(member):
        return "a name with .. in it"
    return ""


@contextlib.contextmanager
def damage(name):
    """Turn any exception raised while reading an archive into a DataError about ``name``."""
    try:
        yield
    except TinyalexError:
        raise
    except Exception as error:  # tarfile and the decompressors raise many kinds of errors on damaged bytes
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{name}: cannot be read ({error.strerror}); check its permissions and its disk") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: not a tar archive, or a damaged one ({reason}); fetch it again") from error
