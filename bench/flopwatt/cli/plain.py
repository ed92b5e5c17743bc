"""A console on which words from elsewhere, such as a file's name, steer nothing."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from flopwatt.text import printable


class PlainConsole(Console):
    """Rich's console, with every control character of a string that is printed shown as its code.

    Text and tables are taken as they are: whoever made them has seen to their words.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich prints, with strings made safe line by line."""
        super().print(*(_safe(one) if isinstance(one, str) else one for one in objects), **options)


def _safe(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
