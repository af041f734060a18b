# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs: check, diff, repeat, mutants, and replaying a case."""
