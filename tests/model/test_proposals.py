# SPDX-License-Identifier: GPL-2.0-or-later
"""What was proposed on the list and not taken: the alternatives as dialects."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor

COUNTER = "qemu-7.2 without freeze.frozen"
"""Freezing as a counter: a link that somebody has frozen can be frozen again."""


def run(monitor: Monitor, name: str, **arguments: Any) -> str:
    """Carry out a command; the text of its error, "" for none."""
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": name, "arguments": plain})
    error: dict[str, str] = reply.get("error", {})
    return error.get("desc", "")


def chain(dialect: str) -> Monitor:
    """An image with two backing files."""
    monitor = Monitor(dialect)
    backing = None
    for name in ("base", "mid", "top"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=65536)
        file = {"driver": "file", "filename": f"{name}.qcow2", "node-name": f"{name}-file"}
        given = {"driver": "qcow2", "node_name": name, "file": file, "backing": backing}
        assert run(monitor, "blockdev-add", **given) == ""
        backing = name
    return monitor


def filter_above(monitor: Monitor, name: str) -> str:
    """A copy-on-read filter that freezes the link between the two upper images."""
    given = {"driver": "copy-on-read", "file": "top", "bottom": "mid"}
    return run(monitor, "blockdev-add", node_name=name, **given)


def cut_off(monitor: Monitor) -> str:
    """Take the backing files away."""
    options = {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": None}
    return run(monitor, "blockdev-reopen", options=[options])


def test_a_flag_is_set_once() -> None:
    monitor = chain("qemu-7.2")
    assert filter_above(monitor, "one") == ""
    told = "Cannot change 'backing' link from 'top' to 'mid'"
    assert filter_above(monitor, "two") == told


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_counter_counts_to_two_and_back(order: tuple[str, str]) -> None:
    monitor = chain(COUNTER)
    assert filter_above(monitor, "one") == filter_above(monitor, "two") == ""
    for name in order:
        assert "frozen" in cut_off(monitor)
        assert run(monitor, "blockdev-del", node_name=name) == ""
    assert cut_off(monitor) == ""
    assert not any(link.frozen for link in monitor.state.links())
