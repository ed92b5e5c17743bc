"""Mutations that keep a format's grammar and change one value, so that inputs get past the parser to what reads it.

Bytes changed at random nearly always end at the first parse error. Each mutator takes the bytes of an input and a
source of chance, and returns other bytes; what it cannot take apart it leaves to the fuzzer's own mutations.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes | None]

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**70, -(2**63), 1e-300, 1e308, -1.5, 0.5, "", "0", "nan",
    "x" * 300, "\x1b[31m[bold]=1+1\u202e", "</script><script>alert(1)</script>",
    "../../etc/passwd", "ok", "failed", "fp8_e4m3", "nt", "burst", "unknown", [], {}, [0], [None], [1, 0],
    {"kind": "aggregate", "time_s": 1e-3, "power_w": 500.0, "window_s": 10.0},
)  # fmt: skip
WORDS = (
    "0",
    "-1",
    "1e999",
    "nan",
    "inf",
    "true",
    '""',
    "[]",
    "{}",
    '"\\u001b[1m"',
    "16777216",
    "99999999999999999999",
    "1e-300",
)


def json_lines(data: bytes, chance: random.Random) -> bytes | None:
    """One value of one line changed, dropped or copied; or a line dropped, doubled or moved."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    if chance.random() < 0.1:
        line = lines.pop(at)
        for _ in range(chance.randrange(3)):
            lines.insert(chance.randrange(len(lines) + 1), line)
        return b"\n".join(lines)
    changed = one_json(lines[at], chance)
    if changed is None:
        return None
    lines[at] = changed
    return b"\n".join(lines)


def one_json(data: bytes, chance: random.Random) -> bytes | None:
    """One value of a JSON document changed, dropped or copied."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    try:
        for _ in range(1 + (chance.random() < 0.3)):
            document = _changed(document, chance)
        return json.dumps(document).encode("utf-8", "surrogatepass")
    except (ValueError, OverflowError, RecursionError):  # a value put inside itself, infinity as an integer
        return None


def _changed(document: Any, chance: random.Random) -> Any:
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in list(keys)[:64]:
            places.append((node, key))
            visit(node[key])

    visit(document)
    if not places:
        return copy.deepcopy(chance.choice(VALUES))
    node, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del node[key]
        case 1:
            other, there = chance.choice(places)
            node[key] = json.loads(json.dumps(other[there]))
        case 2 | 3 if isinstance(node[key], int | float):
            node[key] = chance.choice((-node[key], node[key] * 1000, node[key] / 1000, node[key] + 1, int(node[key])))
        case 2 | 3 if isinstance(node[key], list) and node[key]:
            node[key] = _reshaped(node[key], chance)
        case 4 if isinstance(node, list):
            node.insert(key, copy.deepcopy(chance.choice(VALUES) if chance.random() < 0.5 else node[key]))
        case _:
            node[key] = copy.deepcopy(chance.choice(VALUES))
    return document


def _reshaped(series: list[Any], chance: random.Random) -> list[Any]:
    """A series all alike, the other way round, shorter, with two entries swapped, or one repeated."""
    at, other = chance.randrange(len(series)), chance.randrange(len(series))
    match chance.randrange(5):
        case 0:
            return [series[at]] * len(series)
        case 1:
            return series[::-1]
        case 2:
            return series[:at]
        case 3:
            new = list(series)
            new[at], new[other] = series[other], series[at]
            return new
        case _:
            return [*series[:at], series[other], *series[at + 1 :]]


def toml(data: bytes, chance: random.Random) -> bytes | None:
    """The value behind one `=` changed; or a line dropped or doubled."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    if chance.random() < 0.2:
        line = lines.pop(at)
        for _ in range(chance.randrange(3)):
            lines.insert(at, line)
        return b"\n".join(lines)
    places = list(re.finditer(rb"(?<==)[^,=}\n]+", data))
    if not places:
        return None
    place = chance.choice(places)
    if chance.random() < 0.4:
        word = place[0].strip()
        number = re.fullmatch(rb"-?\d+(\.\d+)?(e-?\d+)?", word)
        new = b"%g" % (float(word) * chance.choice((-1, 0, 1000, 0.001))) if number else chance.choice(places)[0]
    else:
        new = chance.choice(WORDS).encode()
    return data[: place.start()] + b" " + new + data[place.end() :]


def comma_separated(data: bytes, chance: random.Random) -> bytes | None:
    """One cell below the header changed, or a row dropped or doubled."""
    lines = data.split(b"\n")
    if len(lines) < 2:
        return None
    at = chance.randrange(1, len(lines))
    if chance.random() < 0.1:
        line = lines.pop(at)
        for _ in range(chance.randrange(3)):
            lines.insert(at, line)
        return b"\n".join(lines)
    cells = lines[at].split(b",")
    words = (*(str(value).encode() for value in VALUES if isinstance(value, str | int | float)), *lines[at].split(b","))
    cells[chance.randrange(len(cells))] = chance.choice(words).replace(b",", b"")
    lines[at] = b",".join(cells)
    return b"\n".join(lines)


def parquet(data: bytes, chance: random.Random) -> bytes | None:
    """One column's values, or its type, changed."""
    import pyarrow as pa
    from pyarrow import parquet as files

    broken = (pa.ArrowException, OSError, OverflowError, RuntimeError, TypeError, ValueError)
    try:
        # pre_buffer reads in a thread of its own, which at the process's end may wait for Python for ever.
        table = files.read_table(pa.BufferReader(data), use_threads=False, pre_buffer=False)
    except broken:
        return None
    if table.num_rows > 64 or not table.num_columns:
        return None
    at = chance.randrange(table.num_columns)
    kind = chance.choice((table.schema.field(at).type, pa.string(), pa.float64(), pa.int64(), pa.float32()))
    scalars = [value for value in VALUES if value is None or isinstance(value, str | int | float)]
    sink = pa.BufferOutputStream()
    try:
        old = table.column(at).to_pylist()
        new = [chance.choice(scalars) if chance.random() < 0.5 else value for value in old]
        files.write_table(table.set_column(at, table.schema.field(at).name, pa.array(new, kind)), sink)
    except broken:
        return None
    found: bytes = sink.getvalue().to_pybytes()
    return found


def any_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, dropped, or put in, or a stretch doubled, whatever the format is."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at, length = chance.randrange(len(changed) + 1), chance.randrange(1, 9)
        match chance.randrange(4):
            case 0:
                changed[at : at + length] = b""
            case 1:
                changed[at:at] = chance.randbytes(length)
            case 2:
                changed[at : at + length] = chance.randbytes(length)
            case _:
                changed[at:at] = changed[at : at + 8 * length]
    return bytes(changed)
