"""What an hour of a GPU costs, as the user states it: no price is ever assumed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from flopwatt.analysis.report.page.boards import Board, BoardKey
from flopwatt.errors import InputError


def parse(words: Iterable[str]) -> dict[str, float]:
    """GPU=USD_PER_HOUR words as a mapping. Raises InputError."""
    prices: dict[str, float] = {}
    for word in words:
        name, _, figure = word.rpartition("=")
        try:
            price = float(figure)
        except ValueError:
            price = math.nan
        if not name.strip() or not 0 < price < math.inf:
            raise InputError(f"--price {word!r}: write GPU=USD_PER_HOUR, such as H100=2.50")
        if name.strip().lower() in prices:
            raise InputError(f"--price {word!r}: there are two prices for {name.strip()!r}: give one")
        prices[name.strip().lower()] = price
    return prices


def resolve(prices: Mapping[str, float], boards: Sequence[Board]) -> dict[BoardKey, float]:
    """Dollars an hour by board; a price's name is the GPU's, or a part of it. Raises InputError where none matches."""
    found: dict[BoardKey, tuple[bool, str, float]] = {}
    for name, price in prices.items():
        matching = [(board, name in _names(board)) for board in boards if any(name in one for one in _names(board))]
        if not matching:
            there = ", ".join(dict.fromkeys(board.name for board in boards))
            raise InputError(f"--price {name}: no such GPU in these files, which hold {there}")
        for board, exact in matching:
            other = found.get(board.key)
            if other and other[0] == exact:
                raise InputError(f"--price {name} and {other[1]} both mean {board.name}: give its whole name")
            if other is None or exact:
                found[board.key] = exact, name, price
    return {key: price for key, (_, _, price) in found.items()}


def _names(board: Board) -> tuple[str, ...]:
    return tuple(one.lower() for one in (board.name, board.key.gpu or ""))
