# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model expects, what a target showed, and what to call the difference."""
