# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m checker.cli``."""

from checker.cli import main

main()
