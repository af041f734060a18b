# SPDX-License-Identifier: GPL-2.0-or-later
"""Searching for what tells two subjects apart, and trying out options."""
