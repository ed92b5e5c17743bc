"""Scenario files: TOML in, a `Scenario` out, and one line naming file, key and remedy where that cannot be."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from flopwatt.errors import SuiteError
from flopwatt.measurement.simulation.scenario import Scenario

MAX_FILE_BYTES: Final = 2**20
FORMAT_HELP: Final = "correct it, measurement/simulation/scenarios/README.md lists every key"


def shipped() -> dict[str, str]:
    """The scenarios that come with flopwatt: name → TOML text."""
    folder = resources.files("flopwatt.measurement.simulation") / "scenarios"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in files}


def load_scenario(name_or_path: str | Path) -> Scenario:
    """The scenario shipped under that name (`a100`, `h100`), else the one in that file, of at most 1 MiB.

    Raises SuiteError: no such file, not a file, too large, not TOML, or a key unknown, missing or out of bounds.
    """
    name = str(name_or_path)
    known = shipped()
    if name in known:
        return parse_scenario(known[name], name)
    path = Path(name)
    try:
        if not path.is_file():
            what = "is not a file" if path.exists() else "is no file and no shipped scenario"
            raise SuiteError(f"scenario {name!r} {what}: give a .toml file or one of {', '.join(known)}")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise SuiteError(f"scenario {name!r} cannot be read ({error}): give a readable .toml file") from error
    if len(data) > MAX_FILE_BYTES:
        raise SuiteError(f"{name}: a scenario is larger than 1 MiB: keep to the keys of the format, {FORMAT_HELP}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SuiteError(f"{name}: byte {error.start} is not UTF-8: save the file as UTF-8 text") from error
    return parse_scenario(text, name)


def parse_scenario(text: str, source: str) -> Scenario:
    """The scenario in TOML `text`; `source` names it in messages. Raises SuiteError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{source}: not TOML: {_one_line(error)}: correct that line") from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of thousands of digits, an impossible date
        raise SuiteError(f"{source}: not usable TOML ({_one_line(error)}): {FORMAT_HELP}") from error
    for key, number in _numbers(tables, ""):
        if abs(number) > 1e300 or not math.isfinite(number):
            raise SuiteError(f"{source}: {key}: {str(number)[:20]} is not a finite number: {FORMAT_HELP}")
    try:
        return msgspec.convert(tables, Scenario)
    except msgspec.ValidationError as error:
        message, _, where = _one_line(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".") or "top level"
        raise SuiteError(f"{source}: {key}: {message}: {FORMAT_HELP}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{key}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value
