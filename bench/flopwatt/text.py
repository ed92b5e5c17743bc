"""Text from elsewhere made safe to print: a file's words may hold terminal control codes."""

from __future__ import annotations

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that move the cursor, reverse the reading direction, show nothing or are not assigned."""


_FOLDERS = re.compile(r"""(?:(?<![\w./:])|(?<=-[IL]))/(?:[^\s/:'"]+/)+""")
"""The folders of an absolute path, also behind a compiler's -I and -L; not those of a relative one or a URL."""


def without_paths(text: str) -> str:
    """The text with the folders of absolute paths left out: a run file names no home and no machine's layout."""
    return _FOLDERS.sub("…/", text)


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
