# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: what a trace may hold before it reaches a real program."""
