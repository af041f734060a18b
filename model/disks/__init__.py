# SPDX-License-Identifier: GPL-2.0-or-later
"""The image files of a monitor: what ``qemu-img`` does with them, and how a process ends."""
