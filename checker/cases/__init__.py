# SPDX-License-Identifier: GPL-2.0-or-later
"""Cases: what a finding is kept as, how it is read back, waited for and made smaller."""
