"""Words of the command line, held against those there are."""

from __future__ import annotations

from collections.abc import Sequence

from flopwatt.errors import InputError


def one_of(what: str, word: str, known: Sequence[str]) -> None:
    """Raises InputError for a word that is not among the known ones. what: what it is called: `format`, `--fail-on`."""
    if word not in known:
        raise InputError(f"unknown {what} {word!r}: choose one of {', '.join(known)}")
