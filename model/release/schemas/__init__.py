# SPDX-License-Identifier: GPL-2.0-or-later
"""What releases accept, imported from their own introspection."""
