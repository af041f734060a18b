# SPDX-License-Identifier: GPL-2.0-or-later
"""Making a schema document from a build of QEMU."""
