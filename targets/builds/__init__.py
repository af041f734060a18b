# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of QEMU on this machine, and the images that they make."""
