# SPDX-License-Identifier: GPL-2.0-or-later
"""What the users of a node require and share, and how a change of that is checked."""
