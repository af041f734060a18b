# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes over a socket: QMP and NBD, as bytes and as messages."""
