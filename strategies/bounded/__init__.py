# SPDX-License-Identifier: GPL-2.0-or-later
"""Finite sets of commands and options, for searches that leave nothing out."""
