# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of commands: what a client would send, right as far as the state of the model tells."""
