"""Text from elsewhere made safe to print: a file's words may hold terminal control codes."""

from __future__ import annotations

import os
import pwd
import re
import socket
import unicodedata
from functools import cache
from pathlib import Path
from typing import Final

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, reverse the reading direction, show nothing or are not assigned."""


_FOLDERS: Final = re.compile(
    r"""(?<=['"])/(?!(?:sys|proc|dev)/)(?:[^/'"\n]+/)+"""
    r"""|(?:(?<![\w./:])|(?<=-[IL]))/(?!(?:sys|proc|dev)/)(?:[^\s/:'"]+/)+"""
)
"""The folders of an absolute path, also behind a compiler's -I and -L; in quotes also those with spaces. Not those of a
relative path or a URL, nor the kernel's, which are alike on every machine."""

_HOME: Final = re.compile(r"""(?<![\w./:])/(?:home|Users)/[^\s/:'"]+(?=[\s:'"]|$)""")
"""A home itself, which is all folder."""

_UUID: Final = re.compile(r"(?:GPU-|MIG-)?\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")

_NOBODY: Final = frozenset({"", "~", "root", "localhost"})
"""Names that tell nobody from another."""


def without_paths(text: str) -> str:
    """The text with the folders of absolute paths left out: a run file names no home and no machine's layout."""
    return _FOLDERS.sub("…/", _HOME.sub("…", text))


def anonymous(text: str) -> str:
    """The text without folders, UUIDs and the names of this user and machine: what a run file may hold."""
    names = _own_names()
    text = _UUID.sub("…", without_paths(text))
    return names.sub("…", text) if names else text


@cache
def _own_names() -> re.Pattern[str] | None:
    """This user's and this machine's names, as whole words."""
    names = {os.environ.get("USER", ""), os.environ.get("LOGNAME", ""), Path(os.path.expanduser("~")).name}
    try:
        names.add(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:  # a container's user without an entry
        names.discard("")
    host = socket.gethostname()
    names |= {host, host.partition(".")[0]}
    words = "|".join(re.escape(name) for name in sorted(names - _NOBODY, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)") if words else None


def printable(text: str) -> str:
    r"""The text with every control or invisible character shown as its code, such as `\x1b`; tabs become spaces."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if c == "\t" else _code(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _code(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def shortened(text: str, limit: int = 300) -> str:
    """`text`, or its beginning and an ellipsis: what a file holds may be quoted in a message, but not all of it."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain(error: OSError) -> str:
    """What the system says of an error, in lower case."""
    return (error.strerror or str(error)).lower()
