# SPDX-License-Identifier: GPL-2.0-or-later
"""The error that everything in this room raises for what a user can put right."""

from __future__ import annotations


class TargetError(Exception):
    """A target cannot be used as asked. The message is one clear line for the user."""
