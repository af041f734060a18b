# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands with something wrong: one fault that only the block layer sees, or a broken request."""
