"""The sections of a file of cuda-convnet: names, keys and values as text, each with its line in the file."""

import configparser
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyalex.errors import UsageError


class Section:
    """One ``[name]`` of a file.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    name : str
    values : dict
        Key, in lower case as cuda-convnet compares keys, to text.
    lines : dict
        Key to line; "" is the section's own. Empty for a section that the file does not have.
    """

    def __init__(self, file: str, name: str, values: dict[str, str], lines: dict[str, int]) -> None:
        self.file, self.name, self.values, self.lines = file, name, values, lines

    def where(self, key: str = "") -> str:
        """Return the place of a key, or of the section: ``layers-145.cfg, line 12``."""
        line = self.lines.get(key.lower(), self.lines.get(""))
        return f"{self.file}, line {line}" if line else self.file

    def error(self, what: str, key: str = "") -> UsageError:
        """Make an error that names the place of a key."""
        return UsageError(f"{self.where(key)}: [{self.name}] {what}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a value, or the default; a `UsageError` if there is neither."""
        value = self.values.get(key.lower(), default)
        if value is None:
            raise self.error(f"has no {key}; add {key}=")
        return value

    def number(self, key: str, kind: Callable[[str], Any], default: Any = None) -> Any:
        """Return a value converted by ``kind`` (int, float or `flag`), or the default."""
        if key.lower() not in self.values and default is not None:
            return default
        return self._convert(key, self.text(key), kind)

    def numbers(self, key: str, kind: Callable[[str], Any], count: int, default: Any = None) -> list[Any]:
        """Return ``count`` values, one for each input; ``count`` times the default if the key is not there."""
        if key.lower() not in self.values and default is not None:
            return [default] * count
        values = [self._convert(key, text, kind) for text in self.text(key).split(",")]
        if len(values) != count:
            raise self.error(f"{key}={self.text(key)} has {len(values)} values for {count} inputs; give {count}", key)
        return values

    def _convert(self, key: str, text: str, kind: Callable[[str], Any]) -> Any:
        try:
            return kind(text.strip())
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}.get(kind, "1 or 0")  # type: ignore[call-overload]
            raise self.error(f"{key}={self.text(key)} is not valid; give {wanted}", key) from None


def flag(text: str) -> bool:
    """Convert 1, true, yes or on, and 0, false, no or off.

    >>> flag("1"), flag("False")
    (True, False)
    """
    try:
        return configparser.RawConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def read(path: str | Path) -> dict[str, Section]:
    """Read a file's sections, in its order.

    Raises
    ------
    UsageError
        If there is no such file, or it is not an INI file; the message names the line.
    """
    return parse(read_text(path), Path(path).name)


def parse(text: str, file: str) -> dict[str, Section]:
    """Read the sections of a file's text, as `read` does; ``file`` is its name in messages."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", [])), (None,))[0]
        place = f"{file}, line {line}" if line else file
        reason = " ".join(str(error).split("\n")[0].split())
        raise UsageError(f"{place}: not a file of cuda-convnet ({reason}); give [sections] of key=value") from None
    lines = _lines(text)
    return {name: Section(file, name, dict(parser[name]), lines[name]) for name in parser.sections()}


def read_text(path: str | Path) -> str:
    """Return a file's text; `UsageError` if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise UsageError(f"{path}: cannot be read ({reason}); give a file of cuda-convnet") from None


def _lines(text: str) -> dict[str, dict[str, int]]:
    # The line of every section and key: {name: {"": line, key: line}}.
    found: dict[str, dict[str, int]] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if head := re.match(r"\[([^]]+)\]", line):
            name = head[1]
            found[name] = {"": number}
        elif name and (pair := re.match(r"([^#;:=\s][^:=]*?)\s*[:=]", line)):
            found[name].setdefault(pair[1].lower(), number)
    return found
