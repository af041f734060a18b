# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements; each is run as `python -m benchmarks.NAME` and says whether its bar is met."""
