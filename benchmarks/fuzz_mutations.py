"""Mutations of a valid file: of fields, of the table, of bytes, of tensors' contents."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable
from typing import Any

# What a stranger may put in the place of a value; texts are put in as raw JSON.
NUMBERS = (
    0, -1, 1, 2, 3, 7, 255, 16384, 16385, 2**26, 2**31, 2**53 + 1, 2**63, 10**30, 10**400, -(10**9),
    0.5, 1e-300, 1e308, -0.0, math.nan, math.inf, -math.inf,
)  # fmt: skip
TEXTS = (
    "", "a", "../../x", "/tmp/x", "C:\\x", "..", ".", "\x00", "\ud800", "x" * 5000, "a " * 3000,
    "text", "start", "steps", "F16", "F32", "F64", "I8", "<cat>", "猫" * 50, "__metadata__",
    "\u202e",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"a": []}, [0, 0], [1, 1, 1])
RAW = (
    "[" * 40 + "]" * 40, "[" * 100_000, '{"a":' * 2000, "1e999", "NaN", "-Infinity", "9" * 5000,
    '{"a": 1, "a": 2}', '"\\ud800"', "",
)  # fmt: skip
PLACE = "@@raw@@"


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A changed file and the name of what was changed; a safetensors file if it is one."""
    parts = _split(data)
    if parts is None:
        return _bytes(data, rng), "bytes"
    table, body = parts
    kinds: dict[str, Callable[[], bytes]] = {
        "field": lambda: _field(table, body, rng),
        "tensor table": lambda: _table(table, body, rng),
        "contents": lambda: _contents(data, body, rng),
        "bytes": lambda: _bytes(data, rng),
        "nudge": lambda: _nudge(table, body, rng),
    }
    # Most of them leave a whole file, whose fields and tensors are then reached.
    kind = rng.choices(list(kinds), weights=(35, 10, 15, 10, 30))[0]
    return kinds[kind](), kind


def _split(data: bytes) -> tuple[dict[str, Any], bytes] | None:
    try:
        end = 8 + struct.unpack("<Q", data[:8])[0]
        table = json.loads(data[8:end])
    except (struct.error, ValueError):
        return None
    return (table, data[end:]) if isinstance(table, dict) else None


def _join(table: dict[str, Any], body: bytes, raw: str | None = None) -> bytes:
    text = json.dumps(table)
    if raw is not None:
        text = text.replace(f'"{PLACE}"', raw)
    head = text.encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + body


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested lists and objects."""
    found = [path] if path else []
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found += _places(item, (*path, key))
    return found


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def _replacement(old: Any, rng: random.Random) -> Any:
    choice = rng.random()
    if choice < 0.35 and isinstance(old, (int, float)) and not isinstance(old, bool):
        return old + rng.choice((-1, 1, 2, 10, 1000, 0.5))
    if choice < 0.5 and isinstance(old, list) and old:
        return rng.choice((old[:-1], old + old, old[::-1], old * 50, [*old, rng.choice(OTHERS)]))
    if choice < 0.6 and isinstance(old, str):
        return rng.choice((old.upper(), old + "x", old * 30, old[1:], old[::-1]))
    return rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))


def _header_name(table: dict[str, Any]) -> str | None:
    metadata = table.get("__metadata__") or {}
    names = [name for name in metadata if name not in ("format", "version")]
    return names[0] if names else None


def _field(table: dict[str, Any], body: bytes, rng: random.Random) -> bytes:
    """One to three fields of the header, in type, range, nesting or number."""
    table = _copy(table)
    name = _header_name(table)
    if name is None:
        return _table(table, body, rng)
    header = json.loads(table["__metadata__"][name])
    raw = None
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(header)
        if not places:
            break
        path = rng.choice(places)
        parent, key = _parent(header, path), path[-1]
        action = rng.random()
        if action < 0.1:
            del parent[key]
        elif action < 0.2 and isinstance(parent, list):
            parent.insert(key, _copy(parent[key]))
        elif action < 0.3 and raw is None:
            parent[key], raw = PLACE, rng.choice(RAW)
        else:
            # A copy: the next field may be within it, and lists of choices stay as they are.
            parent[key] = _copy(_replacement(parent[key], rng))
    text = json.dumps(header)
    if raw is not None:
        text = text.replace(f'"{PLACE}"', raw)
    if rng.random() < 0.05 and text.startswith("{"):
        text = "{" + text[1:-1] + ", " + text[1:]
    table["__metadata__"][name] = text
    return _join(table, body)


def _nudge(table: dict[str, Any], body: bytes, rng: random.Random) -> bytes:
    """A change that a header may well have: another count, text, weight or size."""
    table = _copy(table)
    name = _header_name(table)
    if name is None:
        return _join(table, body[::-1])
    header = json.loads(table["__metadata__"][name])
    numbers = [
        path
        for path in _places(header)
        if isinstance(_parent(header, path)[path[-1]], (int, float, str))
        and not isinstance(_parent(header, path)[path[-1]], bool)
    ]
    for _ in range(rng.choice((1, 1, 2))):
        path = rng.choice(numbers)
        parent, key = _parent(header, path), path[-1]
        old = parent[key]
        if isinstance(old, str):
            keep = old in ("text", "start", "end", "padding", "unknown", "steps", "F32", "F16")
            parent[key] = old if keep else rng.choice((old.swapcase(), old + "́", "x" * len(old)))
        elif isinstance(old, float):
            parent[key] = old * rng.choice((0.5, 2.0, 1.0001))
        else:
            parent[key] = max(0, old + rng.choice((-1, 1, 5)))
    table["__metadata__"][name] = json.dumps(header)
    return _join(table, body)


def _table(table: dict[str, Any], body: bytes, rng: random.Random) -> bytes:
    """An entry of the tensors' table: type, shape, offsets, name; or the metadata."""
    table = _copy(table)
    raw = None
    name = rng.choice(list(table))
    entry = table[name]
    places = _places(entry)
    action = rng.random()
    if action < 0.15:
        table[rng.choice(TEXTS)] = table.pop(name)
    elif action < 0.25:
        table["more"] = _copy(entry)
    elif action < 0.35 and places:
        path = rng.choice(places)
        _parent(entry, path)[path[-1]], raw = PLACE, rng.choice(RAW)
    elif places:
        path = rng.choice(places)
        parent = _parent(entry, path)
        parent[path[-1]] = _replacement(parent[path[-1]], rng)
    try:
        return _join(table, body, raw)
    except UnicodeEncodeError:
        return _join({}, body)


def _contents(data: bytes, body: bytes, rng: random.Random) -> bytes:
    """Numbers of the tensors: random, NaN, infinite, huge, tiny; the table as it was."""
    head, changed = data[: len(data) - len(body)], bytearray(body)
    patterns = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x00\x7c", b"\xff",
                b"\x00\x00\x00\x80", b"\x00\x00\x80\xbf", b"\x01\x00\x00\x00")  # fmt: skip
    if rng.random() < 0.1:
        return head + bytes(len(body))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        part = rng.choice(patterns) if rng.random() < 0.7 else bytes([rng.randrange(256)])
        start = rng.randrange(max(1, len(changed) - 4)) // 4 * 4
        changed[start : start + len(part)] = part
    return head + bytes(changed[: len(body)])


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut off, doubled or put in, anywhere."""
    action = rng.random()
    if action < 0.25:
        return data[: rng.randrange(len(data) + 1)]
    if action < 0.35:
        return data + bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 100))))
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(changed))
        changed[place] = rng.choice((rng.randrange(256), *b'0123456789"[]{},:-'))
    if action < 0.45:
        place = rng.randrange(len(changed))
        changed[place:place] = changed[: rng.randrange(64)]
    return bytes(changed)
