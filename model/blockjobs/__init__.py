# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of block jobs: for each its command, what it does, and what it leaves behind."""
