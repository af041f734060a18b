# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; nothing but a line and a status ever reaches the user."""
    from checker.cli.entry import main as run  # noqa: PLC0415  # its commands import this room

    run()
