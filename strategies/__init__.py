# SPDX-License-Identifier: GPL-2.0-or-later
"""What to try: state machines that write QMP commands from the model's state."""

from strategies.machine import OnStep, OnTrace, ReopenMachine, machine_for
from strategies.running import Enough, run

__all__ = ["Enough", "OnStep", "OnTrace", "ReopenMachine", "machine_for", "run"]
