# SPDX-License-Identifier: GPL-2.0-or-later
"""The walls: what a process that we start can see, reach and use up."""
