# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of equal bytes, put together from pieces."""

from __future__ import annotations

from targets.wire.nbd import Runs, add_runs


def test_runs_are_merged_across_pieces() -> None:
    found: Runs = []
    add_runs(found, 0, bytes(5000) + b"\1" * 8000 + b"\2\n\n" + bytes(10))
    add_runs(found, 13013, bytes(10) + b"\3")
    add_runs(found, 13024, b"\3" * 9000)
    assert found == [
        [5000, 13000, 1],
        [13000, 13001, 2],
        [13001, 13003, 10],
        [13023, 22024, 3],
    ]


def test_runs_of_nothing() -> None:
    found: Runs = []
    add_runs(found, 0, b"")
    add_runs(found, 0, bytes(100_000))
    assert found == []
