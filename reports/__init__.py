# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read of a run: Markdown, JUnit XML, and scripts that show a finding."""
