# SPDX-License-Identifier: GPL-2.0-or-later
"""Where choices come from, how likely they are, and the values that there are to choose from."""
