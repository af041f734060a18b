# SPDX-License-Identifier: GPL-2.0-or-later
"""blkverify: two children that have to agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.drivers.filter import Filter
from model.graph.driver import FlatOptions, Opener, absorb
from model.graph.traversal import length_of
from model.release.rules import guard
from model.values.state import Link, Node, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition

VERIFY_NAME = guard(
    "blkverify.filename",
    "A blkverify file name names a raw image and one under test.",
    source="7.2",
    text="blkverify requires raw copy and original image path",
    unreachable="only a backing file name in an image gets there",
)


class Blkverify(Filter):
    """Compares a test image with a raw one."""

    name = "blkverify"
    is_protocol = True
    makes_filename = True
    child_name = "raw"
    others = ("test", "raw")
    kinds = {"x-raw": "string", "x-image": "string"}

    def written(self, node: Node) -> list[str]:
        """Both images."""
        return [link.child for link in node.children]

    def lets_go(self, node: Node) -> tuple[tuple[Link, ...], ...]:
        """The image under test is gone before the raw one is let go of."""
        return tuple((link,) for link in node.children)

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """The raw image, then the one under test; the length is the latter's."""
        t = opener.t
        own = absorb(t.ev, options, self.kinds)
        opener.open_child(name, "raw", options, Role.FILTER, "x-raw", own)
        opener.open_child(name, "test", options, Role.DATA, "x-image", own)
        t.change(name, size=self.measure(t, t.nodes[name]))

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """``blkverify:RAW:IMAGE``; any other name is that of the image under test."""
        if not filename.startswith("blkverify:"):
            options["x-image"] = filename
            return
        raw, colon, image = filename.removeprefix("blkverify:").partition(":")
        opener.t.ev.check(VERIFY_NAME, colon)
        options["x-raw"] = raw
        options["x-image"] = image

    def measure(self, t: Transition, node: Node) -> int:
        """That of the image under test."""
        test = node.link("test")
        return length_of(t, test.child) if test is not None else 0

    def exact_filename(self, node: Node, full: dict[str, Any], child_names: dict[str, str]) -> str:
        """``blkverify:RAW:TEST``."""
        raw, test = child_names.get("raw", ""), child_names.get("test", "")
        return f"blkverify:{raw}:{test}" if raw and test else ""
