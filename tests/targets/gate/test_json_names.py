# SPDX-License-Identifier: GPL-2.0-or-later
"""``json:`` names are read as QEMU reads them; ``tests/real`` asks it."""

from __future__ import annotations

from typing import Any

import pytest

from targets.gate.json_names import parse


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ('json:{"a":"b"}', {"a": "b"}),
        ("json:{'a':'b'}", {"a": "b"}),
        ("json:{'a':\"b\"} \n\t", {"a": "b"}),
        ("json:{'a':'\"'}", {"a": '"'}),
        ("json:{'a':'\\''}", {"a": "'"}),
        ('json:{"a":"\\\'"}', {"a": "'"}),
        ("json:{'a':'\\\"'}", {"a": '"'}),
        ("json:{'a':'\\\\'}", {"a": "\\"}),
        ("json:{'a':'\\/\\u002f'}", {"a": "//"}),
        ("json:[1,-0,1.5e3,true,null]", [1, 0, 1500.0, True, None]),
        ("json:'x'", "x"),
    ],
)
def test_what_can_be_read(name: str, value: Any) -> None:
    assert parse(name) == value


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ('json:{"a":1,"a":2}', "a member is there twice"),
        ("json:{'a':{'b':1,\"b\":2}}", "a member is there twice"),
        ("json:{'a", "a string has no end"),
        ("json:'\\'", "a string has no end"),
        ("json:{'a':NaN}", "NaN is not a JSON number"),
        ("json:{'a':1,}", "double quotes"),
        ("json:{a:1}", "double quotes"),
        ("json:{}x", "Extra data"),
        ("json:{}{}", "Extra data"),
        ("json:{/**/}", "double quotes"),
        ("json:{'a':017}", "delimiter"),
        ("json:{'a':'\\-'}", "escape"),
        ("json:{'a':'\1'}", "control character"),
        ("json:\ufeff{}", "BOM"),
        ("json:" + "[" * 100_000, "nested too deeply"),
        ("json:" + "9" * 5000, "digits"),
        ("json:", "Expecting value"),
    ],
)
def test_what_cannot(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(name)
