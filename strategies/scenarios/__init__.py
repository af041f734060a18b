# SPDX-License-Identifier: GPL-2.0-or-later
"""Named ways that lead, over several commands, to where a random walk seldom comes."""
