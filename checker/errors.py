# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that a user can act on: each is shown as its one line, with exit status 2."""

from __future__ import annotations


class CheckerError(Exception):
    """Something that the user asked for cannot be done; the text says what and why."""


class CaseError(CheckerError):
    """A case file cannot be read, understood or written."""


class OutputError(CheckerError):
    """A directory or file for results cannot be written."""
