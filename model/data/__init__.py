# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes: lengths, what is known of them without reading, and requests of guests and jobs."""
