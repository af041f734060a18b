# SPDX-License-Identifier: GPL-2.0-or-later
"""One transition of the graph as data, and how to look around in it."""
