# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands and jobs are made of: opening, reopening, resizing, changing chains."""
