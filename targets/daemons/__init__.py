# SPDX-License-Identifier: GPL-2.0-or-later
"""Running daemons: how traces reach them, and how they are lost."""
