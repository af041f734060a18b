# SPDX-License-Identifier: GPL-2.0-or-later
r"""Text from outside as people see it: nothing in it acts on a terminal, a page or a line.

Names, titles, replies and error output come from cases, daemons and arguments. A byte that moves
the cursor, turns the direction of writing, breaks a line or cannot be seen is written as an
escape sequence instead (``\x1b``, ``\u202e``), wherever people read it. Machines get JSON, which
has escapes of its own.
"""

from __future__ import annotations

import re

_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0"
# What Python takes for printable and no eye can see: joiners, fillers, selectors.
_HIDDEN = re.compile(f"[{_INVISIBLE}]")
_MORE = "... (and {count} more characters)"


def shown(text: str, most: int | None = None) -> str:
    """A text in one line of printable characters, cut after ``most`` of them."""
    if not text.isprintable():
        text = "".join(map(_visible, text))
    text = _HIDDEN.sub(lambda found: _escaped(found[0]), text)
    if most is not None and len(text) > most:
        text = text[:most] + _MORE.format(count=len(text) - most)
    return text


def _visible(character: str) -> str:
    return character if character.isprintable() else _escaped(character)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
