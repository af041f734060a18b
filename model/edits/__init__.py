# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that change links, users and block backends, and their way back."""
