# SPDX-License-Identifier: GPL-2.0-or-later
"""The runs: check, diff, replay, reduce, mutants, and the command line."""
