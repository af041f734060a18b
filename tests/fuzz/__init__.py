# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated inputs: whatever comes in, what comes back is one of the documented answers.

Each module but `mutations`, `material` and `watching` fuzzes one face and can be run by itself
with other numbers (``python -m tests.fuzz.monitor --inputs 20000``). The same seed makes the
same inputs.
"""
