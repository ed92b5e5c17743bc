"""Reading small TOML and JSON files that people write, with every mistake turned into one line that names its place."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from flopwatt.errors import SuiteError

MAX_FILE_BYTES: Final = 2**20
"""A suite or model file is a few kilobytes; a larger one was named by mistake."""

_MAX_LINE: Final = 500
_MAX_WHERE: Final = 200
_AT_KEY: Final = re.compile(r" - at `(?:key in )?\$\.?(?P<key>.*)`$", re.DOTALL)

T = TypeVar("T")


def complaint(where: object, text: str) -> SuiteError:
    """A SuiteError of one printable line, `where: text`, whatever the file had in its keys and values."""
    place = str(where)
    place = place if len(place) <= _MAX_WHERE else "…" + place[1 - _MAX_WHERE :]
    line = " ".join(f"{place}: {text}".split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return SuiteError(line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…")


def read_text(path: Path) -> str:
    """The text of a regular UTF-8 file of at most `MAX_FILE_BYTES`. Raises SuiteError for any other."""
    try:
        if not path.exists():
            raise complaint(path, "no such file: check the path")
        if not path.is_file():
            raise complaint(path, "not a regular file: give the path of a .toml or .json file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise complaint(path, f"cannot be read ({reason}): check the path and its permissions") from error
    if len(content) > MAX_FILE_BYTES:
        raise complaint(path, f"larger than {MAX_FILE_BYTES // 2**20} MiB: give a suite, model or config file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise complaint(path, f"not UTF-8 at byte {error.start}: save the file as UTF-8 text") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The top-level table of a TOML file. Raises SuiteError with line and column where it is malformed."""
    try:
        return tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise complaint(path, f"not valid TOML: {error}: correct it there") from error


def read_json(path: Path) -> dict[str, Any]:
    """The top-level object of a JSON file. Raises SuiteError where it is malformed or not an object."""
    try:
        return msgspec.json.decode(read_text(path), type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise complaint(path, f"not a JSON object: {error}: correct it there") from error


def convert(raw: dict[str, Any], kind: type[T], where: object) -> T:
    """`raw` as a strict struct. Raises SuiteError naming `where`, the key and what it must be."""
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        raise complaint(where, _explain(str(error), kind)) from error
    except SuiteError as error:
        raise complaint(where, str(error)) from error


def _explain(message: str, kind: type) -> str:
    at = _AT_KEY.search(message)
    key = at["key"] if at else ""
    text = (message[: at.start()] if at else message).replace("`", "'")
    inside = f"in {key}: " if key else ""
    if unknown := re.match(r"Object contains unknown field '(.*)'", text, re.DOTALL):
        known = "" if key else f", or use one of {', '.join(getattr(kind, '__struct_fields__', ()))}"
        return f"{inside}unknown key {unknown[1]!r}: remove it{known}"
    if missing := re.match(r"Object missing required field '(.*)'", text, re.DOTALL):
        return f"{inside}missing key {missing[1]!r}: add it"
    return f"{f'key {key}: ' if key else ''}{text}: correct the value"
