"""The base of every record of a run file."""

from __future__ import annotations

import msgspec


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: immutable, by keyword; every field is written, absent ones take their default.

    msgspec hands `kw_only` down to no subclass, so each one says it again.
    """
