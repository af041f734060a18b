# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about the gate is made from its tables."""

from __future__ import annotations

from pathlib import Path

from targets.gate.allowed_page import page


def test_the_page_is_what_the_tables_say() -> None:
    path = Path(__file__).parents[3] / "docs" / "containment.md"
    written = path.read_text(encoding="utf-8")
    assert written == page(), "reopencheck rules --allowed >docs/containment.md"
