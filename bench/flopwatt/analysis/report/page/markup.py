"""HTML that cannot be broken out of: every string is escaped unless a tag made it."""

from __future__ import annotations

import json
from html import escape
from typing import Any, TypeAlias


class Tag(str):
    """Markup, told from text by its type."""

    __slots__ = ()


Child: TypeAlias = "str | Tag | None"

_EMPTY = frozenset({"meta", "input", "br", "hr"})


def tag(name: str, *children: Child, **attributes: str | bool | None) -> Tag:
    """An element. Attributes lose a trailing underscore, others become hyphens; None and False leave them out."""
    opening = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        opening.append(attribute if value is True else f'{attribute}="{escape(str(value))}"')
    start = f"<{' '.join(opening)}>"
    return Tag(start) if name in _EMPTY else Tag(f"{start}{join(*children)}</{name}>")


def join(*children: Child) -> Tag:
    """Children one after the other, text among them escaped."""
    return Tag("".join(child if isinstance(child, Tag) else escape(child) for child in children if child))


def embedded(value: Any) -> str:
    """JSON that can stand inside a script element whatever strings it holds. Raises ValueError for NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
