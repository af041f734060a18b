# SPDX-License-Identifier: GPL-2.0-or-later
"""Immutable values: states, traces, images, what drivers remember. Nothing here imports more."""
