# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's dictionaries as pure functions over Python's: order, nesting, JSON text.

Which of several errors a client sees depends on the order in which QEMU walks
its dictionaries, and that order is a fact of two hash tables: QDict (512
buckets, newest first within one) and, while input is checked, GLib's
GHashTable (open addressing). Source: qobject/qdict.c, block-qdict.c and
json-writer.c of QEMU, ghash.c of GLib 2.58 and later.

A Python dictionary's insertion order stands for the order in which QEMU put
the keys in. No function here changes its arguments.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from model.values.trace import Json

BUCKETS = 512
"""How many buckets a QDict has; it never grows."""

INVALID = -22
"""What `array_entries` returns for keys that are no array: minus EINVAL."""

_WORD = 0xFFFFFFFF
_LAST_PLANE_0 = 0xFFFF
_SIGN = 0x80


def _bytes(text: str) -> bytes:
    """The C string that QEMU's JSON parser makes of ``text``: NUL as two bytes."""
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


@lru_cache(maxsize=4096)
def bucket(key: str) -> int:
    """The bucket, 0 to 511, in which a QDict keeps ``key``."""
    raw = _bytes(key)
    value = (0x238F13AF * len(raw)) & _WORD
    for index, byte in enumerate(raw):
        value += byte << (index * 5 % 24)
    return ((1103515243 * (value & _WORD) + 12345) & _WORD) % BUCKETS


@lru_cache(maxsize=4096)
def _ordered(keys: tuple[str, ...]) -> tuple[str, ...]:
    # Reversed, since sorting keeps the order within a bucket, and that is newest first.
    return tuple(sorted(keys[::-1], key=bucket))  # noqa: C415


def in_order(mapping: Mapping[str, object]) -> tuple[str, ...]:
    """The keys in the order in which QEMU walks a QDict: bucket, then newest first."""
    return _ordered(tuple(mapping))


def clone(mapping: Mapping[str, Json]) -> dict[str, Json]:
    """A copy as QEMU makes one: put in while walking, so that each bucket is reversed."""
    return {key: mapping[key] for key in in_order(mapping)}


def flatten(nested: Mapping[str, Json]) -> dict[str, Json]:
    """One level of dotted keys ("file.filename", "children.0.driver") for nested values.

    Scalars, null and empty dictionaries and lists stay what they are. The
    result's insertion order is QEMU's: what was flat already stays in place,
    what was nested follows in the order of the walk.
    """
    flat = {
        key: value
        for key, value in nested.items()
        if not (isinstance(value, (dict, list)) and value)
    }
    for key in in_order(nested):
        value = nested[key]
        if isinstance(value, dict) and value:
            _flatten_dict(value, key, flat)
        elif isinstance(value, list) and value:
            _flatten_list(value, key, flat)
    return flat


def _flatten_dict(value: Mapping[str, Json], prefix: str, flat: dict[str, Json]) -> None:
    for key in in_order(value):
        _flatten_value(value[key], f"{prefix}.{key}", flat)


def _flatten_list(value: list[Json], prefix: str, flat: dict[str, Json]) -> None:
    for index, each in enumerate(value):
        _flatten_value(each, f"{prefix}.{index}", flat)


def _flatten_value(value: Json, key: str, flat: dict[str, Json]) -> None:
    if isinstance(value, dict) and value:
        _flatten_dict(value, key, flat)
    elif isinstance(value, list) and value:
        _flatten_list(value, key, flat)
    else:
        flat[key] = value


def extract(flat: Mapping[str, Json], prefix: str) -> tuple[dict[str, Json], dict[str, Json]]:
    """``(rest, sub)``: ``sub`` has the entries under ``prefix`` ("file."), without it."""
    if not [key for key in flat if key.startswith(prefix)]:
        return dict(flat), {}
    rest = {key: value for key, value in flat.items() if not key.startswith(prefix)}
    cut = len(prefix)
    sub = {key[cut:]: flat[key] for key in in_order(flat) if key.startswith(prefix)}
    return rest, sub


def array_entries(flat: Mapping[str, Json], prefix: str) -> int:
    """How many elements the array under ``prefix`` ("children.", or "") has.

    An element is either one key ("children.0") or several ("children.0.x").
    Returns `INVALID` when an index has both, or when keys are left that belong
    to no element counted from 0 without a gap.
    """
    mine = [key[len(prefix) :] for key in flat if key.startswith(prefix)]
    whole = set(mine)
    inner: dict[str, int] = {}
    for key in mine:
        element, dot, _ = key.partition(".")
        if dot:
            inner[element] = inner.get(element, 0) + 1
    index = entries = 0
    while True:
        name = str(index)
        count = inner.get(name, 0)
        if name in whole:
            if count:
                return INVALID
            count = 1
        if not count:
            break
        entries += count
        index += 1
    return index if entries == len(mine) else INVALID


class CrumpleError(ValueError):
    """A flat dictionary that stands for no nested value; the text is QEMU's."""


def crumple(flat: Mapping[str, Json]) -> Json:
    """The nested value whose flat form is ``flat``; ".." in a key is a plain dot.

    Raises `CrumpleError`.
    """
    two_level: dict[str, Json] = {}
    for key in in_order(flat):
        value = flat[key]
        if isinstance(value, (dict, list)) and value:
            raise CrumpleError(f"Value {key} is not flat")
        prefix, suffix = _split(key)
        if prefix in two_level and (suffix is None or not isinstance(two_level[prefix], dict)):
            raise CrumpleError("Cannot mix scalar and non-scalar keys")
        if suffix is None:
            two_level[prefix] = value
        else:
            # An empty dictionary that was given as a value is filled too, as in QEMU.
            two_level[prefix] = {**two_level.get(prefix, {}), suffix: value}
    crumpled: dict[str, Json] = {}
    for key in in_order(two_level):
        value = two_level[key]
        crumpled[key] = crumple(value) if isinstance(value, dict) and value else value
    return _as_list(crumpled) if _is_list(crumpled) else crumpled


def _split(key: str) -> tuple[str, str | None]:
    """The key up to its first single dot, unescaped, and what follows it."""
    start = 0
    while (at := key.find(".", start)) >= 0 and key[at + 1 : at + 2] == ".":
        start = at + 2
    if at < 0:
        return key.replace("..", "."), None
    return key[:at].replace("..", "."), key[at + 1 :]


def _index(key: str) -> int | None:
    """The number that strtol reads in all of ``key``, or None."""
    digits = key.lstrip(" \t\n\v\f\r")
    sign = digits[:1] if digits[:1] in {"+", "-"} else ""
    digits = digits[len(sign) :]
    if not (digits.isascii() and digits.isdigit()):
        return None
    value = -int(digits) if sign == "-" else int(digits)
    return value if -(2**63) <= value < 2**63 else None


def _is_list(mapping: Mapping[str, Json]) -> bool:
    kinds = [_index(key) for key in in_order(mapping)]
    indices = [kind for kind in kinds if kind is not None]
    if indices and len(indices) != len(kinds):
        raise CrumpleError("Cannot mix list and non-list keys")
    top = max([-1, *indices])
    if len(indices) != top + 1:
        raise CrumpleError(
            f"List indices are not contiguous, saw {len(indices)} elements but {top} largest index"
        )
    return bool(indices)


def _as_list(mapping: Mapping[str, Json]) -> list[Json]:
    for index in range(len(mapping)):
        if str(index) not in mapping:
            raise CrumpleError(f"Missing list index {index}")
    return [mapping[str(index)] for index in range(len(mapping))]


def as_qemuopt_string(value: Json) -> Json:
    """What is left of a value that went through QemuOpts: a string.

    Null, dictionaries and lists are dropped there without a word; they come
    back as None.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return _number(value)
    return None


def to_json(value: Json) -> str:
    """QEMU's own JSON text of a value, as in "json:{...}" file names."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        parts = [f"{_quoted(key)}: {to_json(value[key])}" for key in in_order(value)]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(to_json(each) for each in value) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _number(value)


def _number(value: float) -> str:
    """A number as QEMU prints it: what fits 64 bits as an integer, else 17 digits or "inf"."""
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return str(value)
    try:
        return f"{float(value):.17g}"
    except OverflowError:
        return "inf" if value > 0 else "-inf"


_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    point = ord(character)
    if " " <= character < "\x7f":
        return character
    if point <= _LAST_PLANE_0:
        return f"\\u{point:04X}"
    point -= _LAST_PLANE_0 + 1
    return f"\\u{0xD800 + (point >> 10):04X}\\u{0xDC00 + (point & 0x3FF):04X}"


# GLib's GHashTable, which input checking keeps its unvisited members in.

_PRIMES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521)
"""Indexed by the table's shift: the largest prime below its size."""

_LEAST_SHIFT = 3
_UNUSED = 0
_TOMBSTONE = 1
_LEAST_HASH = 2


def string_hash(text: str) -> int:
    """GLib's ``g_str_hash``: 32 bits, over signed characters."""
    value = 5381
    for byte in _bytes(text):
        value = (value * 33 + (byte if byte < _SIGN else byte - 2 * _SIGN)) & _WORD
    return value


class _HashTable:
    """A GHashTable of strings, as far as the order of its slots goes."""

    def __init__(self) -> None:
        self.size = 1 << _LEAST_SHIFT
        self.prime = _PRIMES[_LEAST_SHIFT]
        self.hashes = [_UNUSED] * self.size
        self.keys = [""] * self.size
        self.live = 0
        self.occupied = 0

    def home(self, hashed: int) -> int:
        return ((hashed * 11) & _WORD) % self.prime

    def find(self, key: str) -> tuple[int, int]:
        """The slot of ``key``, or the one to put it in; and its hash."""
        hashed = string_hash(key)
        hashed = max(hashed, _LEAST_HASH)
        slot = self.home(hashed)
        free = -1
        step = 0
        while (found := self.hashes[slot]) != _UNUSED:
            if found == hashed and self.keys[slot] == key:
                return slot, hashed
            if found == _TOMBSTONE and free < 0:
                free = slot
            step += 1
            slot = (slot + step) & (self.size - 1)
        return (slot if free < 0 else free), hashed

    def add(self, key: str) -> None:
        slot, hashed = self.find(key)
        before = self.hashes[slot]
        self.hashes[slot] = hashed
        self.keys[slot] = key
        if before >= _LEAST_HASH:
            return
        self.live += 1
        if before == _UNUSED:
            self.occupied += 1
            self.resize_if_due()

    def remove(self, key: str) -> None:
        slot, _ = self.find(key)
        if self.hashes[slot] < _LEAST_HASH:
            return
        self.hashes[slot] = _TOMBSTONE
        self.live -= 1
        self.resize_if_due()

    def resize_if_due(self) -> None:
        sparse = self.size > self.live * 4 and self.size > 1 << _LEAST_SHIFT
        full = self.size <= self.occupied + self.occupied // 16
        if sparse or full:
            self.resize()

    def resize(self) -> None:
        """Move every entry to its place in the new size, in place, evicting as needed."""
        old_size = self.size
        shift = max(int(self.live * 1.333).bit_length(), _LEAST_SHIFT)
        self.size = 1 << shift
        self.prime = _PRIMES[shift]
        room = max(self.size - old_size, 0)
        self.hashes += [_UNUSED] * room
        self.keys += [""] * room
        settled = [False] * len(self.hashes)
        for slot in range(old_size):
            hashed = self.hashes[slot]
            if hashed < _LEAST_HASH:
                self.hashes[slot] = _UNUSED
                continue
            if settled[slot]:
                continue
            key = self.keys[slot]
            self.hashes[slot] = _UNUSED
            while hashed >= _LEAST_HASH:
                target = self.home(hashed)
                step = 0
                while settled[target]:
                    step += 1
                    target = (target + step) & (self.size - 1)
                settled[target] = True
                hashed, self.hashes[target] = self.hashes[target], hashed
                key, self.keys[target] = self.keys[target], key
        del self.hashes[self.size :], self.keys[self.size :]
        self.occupied = self.live

    def order(self) -> list[str]:
        return [
            key for hashed, key in zip(self.hashes, self.keys, strict=True) if hashed >= _LEAST_HASH
        ]


def hash_table_order(added: Iterable[str], removed: Iterable[str] = ()) -> list[str]:
    """The order in which a GHashTable lists what is left of ``added`` after ``removed``.

    Both are applied in the order given; the table grows and shrinks on the way.
    """
    table = _HashTable()
    for key in added:
        table.add(key)
    for key in removed:
        table.remove(key)
    return table.order()
