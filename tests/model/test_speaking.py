# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces in the words of another release."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.values.trace import OBJECT
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.translation import spoken, translated
from model.values.trace import Command, Trace

OLD, NEW = QEMU_5_2.schema, QEMU_7_2.schema
OPTIONS = {"driver": "null-co", "node-name": "n"}
FLAT: Command = {"execute": "x-blockdev-reopen", "arguments": OPTIONS}
LISTED: Command = {"execute": "blockdev-reopen", "arguments": {"options": [OPTIONS]}}


def adds(**arguments: Any) -> Command:
    return {"execute": "object-add", "arguments": arguments}


def test_one_node_is_reopened_in_either_way() -> None:
    assert spoken(LISTED, OLD) == FLAT
    assert spoken(FLAT, NEW) == LISTED
    assert spoken(FLAT, OLD) is FLAT
    assert spoken(LISTED, NEW) is LISTED


@pytest.mark.parametrize("options", [[], [OPTIONS, OPTIONS], "n", ["n"]])
def test_what_has_no_words_stays_as_it_is(options: Any) -> None:
    command = {"execute": "blockdev-reopen", "arguments": {"options": options}}
    assert spoken(command, OLD) is command


def test_objects_are_there_from_the_start_where_none_can_be_added() -> None:
    plain = {"qom-type": "iothread", "id": "io0"}
    odd = adds(**{"qom-type": "secret", "id": "s0", "data": "x"})
    trace = Trace((), (LISTED, adds(**plain), odd, adds(**plain)))
    assert translated(trace, NEW) == trace
    assert translated(trace, OLD).commands == (
        {"execute": OBJECT, "arguments": plain},
        FLAT,
        odd,
    )


def test_an_object_is_there_once_however_often_it_is_made() -> None:
    """A daemon that is to make an object twice does not start."""
    plain = {"qom-type": "iothread", "id": "io0"}
    had = {"execute": OBJECT, "arguments": plain}
    for commands in ((had, adds(**plain)), (adds(**plain), had), (had, had)):
        assert translated(Trace((), (*commands, FLAT)), OLD).commands == (had, FLAT)


def test_a_translated_trace_leads_to_the_same_graph() -> None:
    options = {"driver": "throttle", "throttle-group": "tg0", "file": "n", "node-name": "t"}
    changed = {**options, "read-only": False}
    trace = Trace(
        (),
        (
            adds(**{"qom-type": "throttle-group", "id": "tg0"}),
            {"execute": "blockdev-add", "arguments": OPTIONS},
            {"execute": "blockdev-add", "arguments": options},
            {"execute": "blockdev-reopen", "arguments": {"options": [changed]}},
        ),
    )
    found = []
    for dialect in (QEMU_5_2, QEMU_7_2):
        monitor = Monitor(dialect)
        for command in translated(trace, dialect.schema).commands:
            assert "return" in monitor.execute(command)
        found.append((set(monitor.state.nodes), set(monitor.state.objects)))
    assert found[0] == found[1]
