# SPDX-License-Identifier: GPL-2.0-or-later
"""blkdebug: a filter that disturbs what goes through it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from model.drivers.file import is_known
from model.drivers.filter import Filter
from model.graph.driver import FlatOptions, Opener, absorb, default_permissions
from model.graph.traversal import driver_at, primary_child, primary_length
from model.release.rules import guard, outside
from model.release.scope import Outside
from model.values.private import DebugState
from model.values.qdict import extract
from model.values.state import Limits, Node, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition

_INT_MAX = (1 << 31) - 1


DEBUG_NAME = guard(
    "blkdebug.filename",
    "A blkdebug file name names a configuration, perhaps an empty one, and an image.",
    source="7.2",
    text="blkdebug requires both config file and image path",
    unreachable="only a backing file name in an image gets there",
)


DEBUG_CONFIG = guard(
    "blkdebug.config",
    "A configuration file exists.",
    source="7.2",
    text="Could not read blkdebug config file: No such file or directory",
)


CONFIG = outside(
    "blkdebug.unmodelled-config",
    "A configuration file does not exist.",
    text="the configuration file {config!r} of a blkdebug node is not modelled",
)


INJECTS = outside(
    "blkdebug.injects",
    "No error is injected.",
    text="an error that node '{node}' may inject is not modelled",
)


DEBUG_ALIGNMENT = guard(
    "blkdebug.limits",
    "The limits of a blkdebug node are multiples of its alignment, which is a power of two.",
    source="7.2",
    text="Cannot meet constraints with {key} {value}",
)


_INJECTED_EVENT = re.compile(r"inject-error\.[0-9]+\.event")


_QUIET = frozenset({"read_aio", "write_aio", "read_backing_aio", "cor_write", "cow_read"})
"""The events that come only when a format's data is read or written."""


_PERMS = {"consistent-read": 1, "write": 2, "write-unchanged": 4, "resize": 8, "graph-mod": 16}


_INJECTED = Outside(
    "errors that are injected, and the states that lead to them",
    when="there is an error to inject, and something is read or written through the node, or its "
    "event may come when something is opened or flushed",
)


class Blkdebug(Filter):
    """Injects errors, limits and permissions."""

    name = "blkdebug"
    is_protocol = True
    can_reopen = True
    makes_filename = True
    child_name = "image"
    strong = (
        "config",
        "inject-error.",
        "set-state.",
        "align",
        "max-transfer",
        "opt-write-zero",
        "max-write-zero",
        "opt-discard",
        "max-discard",
    )
    kinds = {
        "config": "string",
        "x-image": "string",
        "align": "size",
        "max-transfer": "size",
        "opt-write-zero": "size",
        "max-write-zero": "size",
        "opt-discard": "size",
        "max-discard": "size",
    }
    others = ("image", "take-child-perms", "unshare-child-perms")
    outside = {
        "inject-error": _INJECTED,
        "inject-error.*": _INJECTED,
        "set-state": _INJECTED,
        "set-state.*": _INJECTED,
    }

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Rules and permissions first, then the child, then the limits."""
        t, ev = opener.t, opener.t.ev
        own = absorb(ev, options, self.kinds)
        if "config" in own:
            if own["config"] in t.images or not is_known(t, own["config"]):
                ev.leave(CONFIG, "blockdev-add/blkdebug.config", config=own["config"])
            ev.refuse(DEBUG_CONFIG, config=own["config"])
        ev.accepted.add(DEBUG_CONFIG.id)
        perms = []
        for prefix in ("inject-error.", "set-state.", "take-child-perms.", "unshare-child-perms."):
            rest, sub = extract(options, prefix)
            if sub:
                options.clear()
                options.update(rest)
            perms.append(sum({_PERMS.get(str(value), 0) for value in sub.values()}))
        # The permissions count from the moment that the child is attached.
        t.change(name, private=DebugState(perms[2], perms[3], 0))
        opener.open_child(name, self.child_name, options, Role.FILTER, "x-image", own)
        self._check_limits(opener, name, own)
        t.change(
            name,
            private=DebugState(perms[2], perms[3], own.get("align", 0)),
            size=primary_length(t, t.nodes[name]),
        )

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """``blkdebug:CONFIG:IMAGE``; any other name is that of the image."""
        if not filename.startswith("blkdebug:"):
            options["x-image"] = filename
            return
        config, colon, image = filename.removeprefix("blkdebug:").partition(":")
        opener.t.ev.check(DEBUG_NAME, colon)
        if config:
            options["config"] = config
        options["x-image"] = image

    def _check_limits(self, opener: Opener, name: str, own: FlatOptions) -> None:
        t, ev = opener.t, opener.t.ev
        align = own.get("align", 0)
        power = align & (align - 1) == 0
        ev.check(DEBUG_ALIGNMENT, align < _INT_MAX and power, key="align", value=align)
        below = primary_child(t, name)
        alignment = max(align, driver_at(t, below).alignment(t, t.nodes[below]))
        for key, least in (
            ("max-transfer", 0),
            ("opt-write-zero", 0),
            ("max-write-zero", own.get("opt-write-zero", 0)),
            ("opt-discard", 0),
            ("max-discard", own.get("opt-discard", 0)),
        ):
            value = own.get(key, 0)
            ok = value < _INT_MAX and value % max(alignment, least) == 0
            ev.check(DEBUG_ALIGNMENT, ok, key=key, value=value)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """As a filter, plus what is taken, minus what is unshared."""
        needed, granted = default_permissions(role, writable, perm, shared)
        state: DebugState = node.private
        return needed | state.take, granted & ~state.unshare

    def follow(self, t: Transition, node: Node, *, opening: bool) -> None:
        """An error may be injected here."""
        events = [value for key, value in node.options.items() if _INJECTED_EVENT.fullmatch(key)]
        if events and not (opening and _QUIET.issuperset(events)):
            t.ev.leave(INJECTS, "blockdev-add/blkdebug.inject-error", node=node.name)

    def flush(self, t: Transition, node: Node) -> None:
        """That may fail, too."""
        self.follow(t, node, opening=True)

    def alignment(self, t: Transition, node: Node) -> int:
        """Its own."""
        state: DebugState = node.private
        return state.align or 1

    def limit(self, node: Node, merged: Limits) -> Limits:
        """Its options, where they say anything."""

        def given(key: str) -> int:
            return int(node.options.get(key, 0))

        return Limits(
            discard=given("opt-discard") or merged.discard,
            transfer=given("max-transfer") or merged.transfer,
            memory=merged.memory,
            zeroes=given("opt-write-zero"),
            most_discard=given("max-discard"),
            most_zeroes=given("max-write-zero"),
        )

    def exact_filename(self, node: Node, full: dict[str, Any], child_names: dict[str, str]) -> str:
        """``blkdebug:CONFIG:IMAGE``, unless a limit or a rule is set."""
        image = next(iter(child_names.values()), "")
        if not image or not set(full) <= {"config", "image", "x-image", "driver"}:
            return ""
        return f"blkdebug:{full.get('config', '')}:{image}"
