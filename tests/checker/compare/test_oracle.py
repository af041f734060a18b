# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model says of a whole trace is what a daemon could say of it."""

from __future__ import annotations

from checker.compare.oracle import expect
from model.release.dialects import DIALECTS
from model.values.trace import Trace


def test_a_trace_begins_after_the_negotiation() -> None:
    """A target has negotiated before it gets a trace, and refuses to do it again."""
    trace = Trace(images=(), commands=({"execute": "qmp_capabilities"},))
    for dialect in DIALECTS.values():
        (found,) = expect(trace, dialect)
        assert found.observation.reply["error"]["class"] == "CommandNotFound"
