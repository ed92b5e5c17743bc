"""Whether a report is still our page: elements and attributes of ours alone, data that stays data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from judging import Finding, assert_plain

ELEMENTS = re.compile(
    "a|article|b|blockquote|body|br|button|caption|code|dd|details|div|dl|dt|figcaption|figure|footer|h[123]|head|"
    "header|html|input|label|li|main|meta|nav|ol|option|p|script|section|select|small|span|style|summary|table|tbody|"
    "td|th|thead|title|tr|ul"
)
ATTRIBUTES = re.compile(
    "autocomplete|charset|class|colspan|content|data-[a-z-]+|for|hidden|href|http-equiv|id|lang|name|open|placeholder|"
    "role|scope|spellcheck|tabindex|title|type|value|aria-[a-z]+"
)
SCRIPTS = ("data", "library", "page")


def assert_tame(page: str) -> None:
    """Raises Finding where text of a run file has become markup, script, an address or a control character."""
    parser = _Parser(convert_charrefs=True)
    parser.feed(page)
    parser.close()
    if len(parser.scripts) != len(SCRIPTS):
        raise Finding(f"{len(parser.scripts)} scripts on the page instead of {len(SCRIPTS)}")
    json.loads(parser.scripts[0], parse_constant=_no_constant)
    assert_plain("".join(parser.words))


def _no_constant(name: str) -> None:
    raise Finding(f"{name} in the page's data")


class _Parser(HTMLParser):
    """Gathers scripts and text; complains of what the template would never write."""

    def __init__(self, *, convert_charrefs: bool) -> None:
        super().__init__(convert_charrefs=convert_charrefs)
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._within: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not ELEMENTS.fullmatch(tag):
            raise Finding(f"an element <{tag}> that the page has not")
        for name, value in attrs:
            if not ATTRIBUTES.fullmatch(name):
                raise Finding(f"an attribute {name} that the page has not")
            if name == "href" and not (value or "").startswith("#"):
                raise Finding(f"a link to {value}")
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = None

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise Finding(f"a comment: {data[:80]!r}")

    def unknown_decl(self, data: str) -> None:
        raise Finding(f"a declaration: {data[:80]!r}")

    def handle_pi(self, data: str) -> None:
        raise Finding(f"a processing instruction: {data[:80]!r}")
