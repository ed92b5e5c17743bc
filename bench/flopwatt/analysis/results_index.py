"""results/README.md from the run files under results/ and index.toml beside it: every file, and what they say together.

`python -m flopwatt.analysis.results_index [results]` writes it.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec

from flopwatt.analysis.published_speed import BASE, nameplate_lines, speed_lines
from flopwatt.errors import FlopwattError, InputError
from flopwatt.runs.store import RunFile, read
from flopwatt.text import printable

INDEX: Final = "index.toml"
README: Final = "README.md"

INTRODUCTION: Final = """\
# Results

Runs that this repository vouches for, one folder a machine; what others measured lies under `imported/`. Written by
`make results`. `flopwatt show FILE` prints a file, `flopwatt check FILE` verifies it, `flopwatt compare BASE NEW` holds
two against each other."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: its path under results/, the command that wrote it, what it shows."""

    path: str
    command: Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f`]+$")]
    shows: str


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: tuple[_Entry, ...]


def render(root: Path) -> str:
    """The text of README.md for a folder of results.

    Raises InputError where a run file is not in index.toml, or the other way round.
    """
    entries = _entries(root)
    runs = {entry.path: read(root / entry.path) for entry in entries}
    lines = [INTRODUCTION, "", *_files(entries, runs), *_sources(entries, runs)]
    imported = [run for run in runs.values() if run.header.origin == "imported"]
    if imported:
        measured = [run for run in runs.values() if run.header.origin == "measured"]
        base_measured = any(segment.environment.spec == BASE for run in measured for segment in run.segments)
        lines += [*speed_lines(imported), *nameplate_lines(base_measured)]
    return "\n".join(lines) + "\n"


def _entries(root: Path) -> tuple[_Entry, ...]:
    try:
        index = msgspec.convert(tomllib.loads((root / INDEX).read_text(encoding="utf-8")), _Index)
    except (OSError, ValueError) as error:  # malformed TOML and a wrong type are both ValueErrors
        raise InputError(f"{root / INDEX}: {error}: list every run file in it") from None
    listed = {entry.path for entry in index.file}
    there = {path.relative_to(root).as_posix() for path in root.rglob("*.jsonl")}
    for path in sorted(listed ^ there):
        where = "not listed" if path in there else "listed, but not there"
        raise InputError(f"{root / path}: {where}: correct {root / INDEX}")
    return index.file


def _files(entries: Sequence[_Entry], runs: dict[str, RunFile]) -> Iterator[str]:
    yield "| file | GPU or CPU | origin | date | what it shows |"
    yield "|---|---|---|---|---|"
    for entry in entries:
        run = runs[entry.path]
        gpus = ", ".join(dict.fromkeys(_cell(segment.environment.gpu) for segment in run.segments))
        date = run.header.created[:10]
        link = f"[{entry.path}]({entry.path})"
        yield f"| {link} | {gpus} | {run.header.origin} | {date} | {len(run.records)} cases: {_cell(entry.shows)} |"
    yield ""
    yield "Each was written by"
    yield ""
    yield "```sh"
    for entry in entries:
        yield entry.command
    yield "```"
    yield ""


def _sources(entries: Sequence[_Entry], runs: dict[str, RunFile]) -> Iterator[str]:
    """Where imported files come from: their licences ask for it."""
    imported = [(entry.path, runs[entry.path].header) for entry in entries if runs[entry.path].header.source]
    if not imported:
        return
    yield "Sources of the imported files, which are excerpts, converted and otherwise unchanged:"
    yield ""
    yield "| file | source | licence |"
    yield "|---|---|---|"
    for path, header in imported:
        yield f"| {path} | {_cell(header.source or '')} | {_cell(header.licence or 'not stated')} |"
    yield ""


def _cell(text: str) -> str:
    """Text that cannot end its cell or become a link."""
    plain = printable(" ".join(text.split()))
    return "".join(f"\\{char}" if char in "|<[`*" else char for char in plain)


def main(arguments: Sequence[str]) -> int:
    """Writes the README of the folder named, or of results/; 2 and one line on stderr where that cannot be."""
    root = Path(arguments[0]) if arguments else Path("results")
    try:
        (root / README).write_text(render(root), encoding="utf-8")
    except FlopwattError as error:
        print(f"results: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
