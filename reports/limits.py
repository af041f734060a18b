# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of what comes from outside is written for people; docs/limits.md states it.

Everything stands in the case files. What is cut says how much of it there was.
"""

from __future__ import annotations

MOST_TITLE = 500
"""Characters of a title or another text that stands in one line."""
MOST_VALUE = 20_000
"""Characters of a command or an answer, as JSON, in a line of a report."""
MOST_STEPS = 200
"""Steps of a finding that ``summary.md`` and ``junit.xml`` tell, the last ones."""
MOST_DRAWN = 100
"""Nodes of a graph that is drawn."""
MOST_FINDINGS = 200
"""Findings that ``summary.md`` tells in full; of the others it has a line each."""
