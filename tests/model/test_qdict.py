# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's dictionaries; expected values come from the storage daemon or from GLib itself."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.values import qdict
from model.values.qdict import CrumpleError


def test_order_is_by_bucket() -> None:
    # As the daemon printed them in a "json:" file name.
    keys = ["size", "driver", "offset", "file"]
    assert qdict.in_order(dict.fromkeys(keys)) == ("offset", "driver", "size", "file")
    assert all(0 <= qdict.bucket(key) < 512 for key in ["", "x", "\u00e9", "a\0b"])


def test_newest_first_within_a_bucket() -> None:
    target = qdict.bucket("k0")
    same = [key for key in (f"k{n}" for n in range(5000)) if qdict.bucket(key) == target][:3]
    assert qdict.in_order(dict.fromkeys(same)) == tuple(same[::-1])


def test_flatten() -> None:
    nested: dict[str, Any] = {
        "driver": "quorum",
        "children": [{"driver": "raw", "file": {"driver": "null-co"}}, "hd1", [], [["x"]]],
        "cache": {},
        "backing": None,
    }
    assert qdict.flatten(nested) == {
        "driver": "quorum",
        "children.0.driver": "raw",
        "children.0.file.driver": "null-co",
        "children.1": "hd1",
        "children.2": [],
        "children.3.0.0": "x",
        "cache": {},
        "backing": None,
    }


def test_what_was_flat_is_older_than_what_was_nested() -> None:
    flat = qdict.flatten({"file": {"driver": "null-co"}, "driver": "raw"})
    assert list(flat) == ["driver", "file.driver"]


def test_extract() -> None:
    flat = {"driver": "raw", "file.driver": "file", "filename": "x", "file.filename": "y"}
    rest, sub = qdict.extract(flat, "file.")
    assert rest == {"driver": "raw", "filename": "x"}
    assert sub == {"driver": "file", "filename": "y"}
    assert qdict.extract(flat, "backing.") == (flat, {})


@pytest.mark.parametrize(
    ("flat", "prefix", "count"),
    [
        ({}, "children.", 0),
        ({"driver": "x"}, "children.", 0),
        (
            {"children.0": "a", "children.1.driver": "b", "children.1.x": "c", "d": 1},
            "children.",
            2,
        ),
        ({"children.1": "a"}, "children.", qdict.INVALID),
        ({"children.0": "a", "children.0.x": "b"}, "children.", qdict.INVALID),
        ({"children.0": "a", "children.2": "b"}, "children.", qdict.INVALID),
        ({"children.00": "a"}, "children.", qdict.INVALID),
        ({"children.": "a"}, "children.", qdict.INVALID),
        ({"0": "a", "1.b": "c"}, "", 2),
        ({"0": "a", "x": "c"}, "", qdict.INVALID),
    ],
)
def test_array_entries(flat: dict[str, Any], prefix: str, count: int) -> None:
    assert qdict.array_entries(flat, prefix) == count


def test_json_text() -> None:
    # The first three as the daemon wrote them.
    nested = {"driver": "raw", "file": {"driver": "null-co", "size": 65536}, "offset": 512}
    assert qdict.to_json({**nested, "size": 1024}) == (
        '{"offset": 512, "driver": "raw", "size": 1024, '
        '"file": {"driver": "null-co", "size": 65536}}'
    )
    assert qdict.to_json({"driver": "null-co", "read-zeroes": True}) == (
        '{"read-zeroes": true, "driver": "null-co"}'
    )
    assert qdict.to_json('a"b\\c:\u00e9\u20ac\U0001f600\t\x01') == (
        '"a\\"b\\\\c:\\u00E9\\u20AC\\uD83D\\uDE00\\t\\u0001"'
    )
    assert qdict.to_json([None, False, 2**64 - 1, 2**64, 1.5, {}, [], "\x7f/"]) == (
        '[null, false, 18446744073709551615, 1.8446744073709552e+19, 1.5, {}, [], "\\u007F/"]'
    )


@pytest.mark.parametrize(
    ("value", "left"),
    [("x", "x"), (True, "on"), (False, "off"), (-5, "-5"), (0.5, "0.5"), (None, None), ([], None)],
)
def test_values_that_went_through_qemuopts(value: Any, left: Any) -> None:
    assert qdict.as_qemuopt_string(value) == left


def test_crumple() -> None:
    flat: dict[str, Any] = {"a.0.b": 1, "a.0.c": 2, "a.1.b": 3, "x..y": None, "e": {}}
    assert qdict.crumple(flat) == {"a": [{"b": 1, "c": 2}, {"b": 3}], "x.y": None, "e": {}}
    assert qdict.crumple({}) == {}
    assert qdict.crumple({"0": "a", "1": "b"}) == ["a", "b"]


@pytest.mark.parametrize(
    ("flat", "text"),
    [
        ({"a": {"b": 1}}, "Value a is not flat"),
        ({"a": 1, "a.b": 2}, "Cannot mix scalar and non-scalar keys"),
        ({"a.0": 1, "a.b": 2}, "Cannot mix list and non-list keys"),
        (
            {"a.0": 1, "a.2": 2},
            "List indices are not contiguous, saw 2 elements but 2 largest index",
        ),
        ({"a.+0": 1}, "Missing list index 0"),
    ],
)
def test_what_does_not_crumple(flat: dict[str, Any], text: str) -> None:
    with pytest.raises(CrumpleError) as caught:
        qdict.crumple(flat)
    assert str(caught.value) == text


_KEYS = st.text("abcdefgh-_0123456789\u00e9", min_size=1, max_size=8)
_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.just("x")
_NESTED = st.recursive(
    _SCALARS,
    lambda inner: (
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=4) | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(derandomize=True)
@given(st.dictionaries(st.sampled_from("abcd"), _NESTED, max_size=4))
def test_crumple_undoes_flatten(nested: dict[str, Any]) -> None:
    assert qdict.crumple(qdict.flatten(nested)) == nested


class _GLib:
    """The real GHashTable, where GLib is installed."""

    def __init__(self, library: str) -> None:
        self.lib = ctypes.CDLL(library)
        pointer = ctypes.c_void_p
        self.lib.g_hash_table_new.restype = pointer
        self.lib.g_hash_table_new.argtypes = [pointer, pointer]
        self.lib.g_hash_table_insert.argtypes = [pointer, ctypes.c_char_p, pointer]
        self.lib.g_hash_table_remove.argtypes = [pointer, ctypes.c_char_p]
        self.lib.g_hash_table_iter_init.argtypes = [pointer, pointer]
        self.lib.g_hash_table_iter_next.argtypes = [pointer, pointer, pointer]
        self.lib.g_hash_table_unref.argtypes = [pointer]
        self.functions = [
            ctypes.cast(function, pointer)
            for function in (self.lib.g_str_hash, self.lib.g_str_equal)
        ]

    def order(self, added: list[str], removed: list[str]) -> list[str]:
        table = self.lib.g_hash_table_new(*self.functions)
        raw = [key.encode() for key in added]  # the table keeps these pointers
        for each in raw:
            self.lib.g_hash_table_insert(table, each, None)
        for key in removed:
            self.lib.g_hash_table_remove(table, key.encode())
        walk = ctypes.create_string_buffer(64)
        self.lib.g_hash_table_iter_init(walk, table)
        found = []
        key_found = ctypes.c_char_p()
        while self.lib.g_hash_table_iter_next(walk, ctypes.byref(key_found), None):
            assert key_found.value is not None
            found.append(key_found.value.decode())
        self.lib.g_hash_table_unref(table)
        return found


@pytest.fixture(scope="module")
def glib() -> _GLib:
    library = ctypes.util.find_library("glib-2.0")
    if library is None:
        pytest.skip("GLib is not installed")
    return _GLib(library)


@settings(derandomize=True, max_examples=300)
@given(keys=st.lists(_KEYS, unique=True, max_size=60), data=st.data())
def test_hash_tables_are_glibs(glib: _GLib, keys: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(keys))
    removed = shuffled[: data.draw(st.integers(0, len(keys)))]
    assert qdict.hash_table_order(keys, removed) == glib.order(keys, removed)


def test_a_table_that_grew_and_shrank() -> None:
    # As the daemon named the first of these twenty members.
    assert qdict.hash_table_order(qdict.in_order({f"k{n}": n for n in range(20)}))[0] == "k7"
    assert qdict.hash_table_order(map(str, range(100)), map(str, range(100))) == []
    assert sorted(qdict.hash_table_order(map(str, range(100)), map(str, range(97)))) == [
        "97",
        "98",
        "99",
    ]
