# SPDX-License-Identifier: GPL-2.0-or-later
"""What a release says: its schema, its rules, and the dialects that choose among them."""
