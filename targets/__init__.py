# SPDX-License-Identifier: GPL-2.0-or-later
"""What is driven: real storage daemons, how they are found, and how traces reach them."""
