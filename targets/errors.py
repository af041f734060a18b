# SPDX-License-Identifier: GPL-2.0-or-later
"""The errors that this room raises for what a user can put right."""

from __future__ import annotations


class TargetError(Exception):
    """A target cannot be used as asked. The message is one clear line for the user."""


class ContainmentError(TargetError):
    """A trace holds what is not allowed to reach a real program.

    The message is one line: where it is (an image or a step, and the place in it), what is wrong
    with it, and what would do instead.
    """
