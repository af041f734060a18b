# SPDX-License-Identifier: GPL-2.0-or-later
"""Weights: how many commands are meant to be right, and in which way the others are wrong.

The share of accepted commands (35 to 75 per cent, about 55 meant) follows from these
numbers and from what the graph itself refuses; the tests hold it in that band.
All are percentages.
"""

from __future__ import annotations

from typing import Final

NEAR_VALID: Final = 38
"""Of the commands of each rule: exactly one thing is wrong that only the block layer can tell."""

OWN_FAULT: Final = 35
"""Of the near-valid options: what is wrong is special to the driver."""

OPTION_SET: Final = 60
"""Of the new nodes: some options beside the required ones are given."""

READ_ONLY: Final = 20
"""Of the new nodes: read-only is asked for although nothing requires it."""

FIT: Final = 92
"""Of the choices with a known fit (an idle child, an unused file): the fitting one is taken."""

NAMED: Final = 75
"""Of the children opened inline: they get a node name, so that later commands can refer to them."""

INLINE: Final = 40
"""Of the children that inherit from the node reopened: described anew instead of referred to."""

ENVELOPE: Final = 15
"""Of the malformed commands: the request itself is wrong, not its arguments."""

MOST_NODES: Final = 10
"""No rule adds to a graph that has more nodes (a chain may add four)."""

DARING: Final = 5
"""Of the examples: they may send what a release has a defect at. The others leave it out,
because nothing after it can be compared."""

MOST_FIRST: Final = 4
"""Each example starts with up to so many commands that add something."""

MOST_OBJECTS: Final = 5
"""No rule makes objects beside so many."""

MOST_JOBS: Final = 3
"""No rule starts a job beside so many."""

MOST_EXPORTS: Final = 2
"""No rule adds an export beside so many."""

MOST_DEVICES: Final = 6
"""No rule adds a device beside so many."""

FIRST_DEVICES: Final = 60
"""Of the examples where there is a machine: they begin with disks."""

FIRST_JOB: Final = 80
"""Of the other examples: they begin with a chain of backing files and a job on it."""

FIRST_CORNER: Final = 40
"""Of the examples: they begin on the way into a corner, with nothing in their way."""

WRONG_FIRST: Final = 4
"""A job that an example begins with is told wrongly so many times before."""

HELD_BACK: Final = 65
"""Of the jobs: a client says when they change the graph, so that they stay alive until then."""

KEPT: Final = 40
"""Of the jobs: they stay in the list when they have ended, until a client takes them away."""

THROTTLED: Final = 45
"""Of the jobs that can be stopped in the middle of their work: they are."""

NAMED_FILTER: Final = 45
"""Of the jobs: their filter has a name, which makes it a node like any other."""

READ_AT_END: Final = 55
"""Of the examples: at the end a guest reads through every node on top."""

FILLED: Final = 75
"""Of the images: something has been written to them."""

FIRST_SERVER: Final = 40
"""Of the other examples: they begin with an NBD server, without which nothing can be exported."""
