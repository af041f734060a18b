# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m strategies`` prints the page of what traces are made of."""

import sys

from strategies.listing import page

sys.stdout.write(page())
