# SPDX-License-Identifier: GPL-2.0-or-later
"""Drivers whose options are modelled, and nothing else of them.

They need a server, a device or a secret, or a format that says nothing new. What a reopen does to
their options is known all the same: which there are, which may be left out although they are
set, and which may have another value. :func:`answer` judges by that.

Source: the letter of the 2019 series names the drivers that patch 9/13 has to say so; which options
those are is taken from 5.2. Up to 11.1 a few options have come, and sheepdog has gone; what a
reopen does to any of them has not changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.drivers.file import File
from model.graph.driver import FlatOptions, as_string
from model.operations.reopen_options import (
    _STAYING,
    COMMON,
    check_omitted,
    check_unchanged,
    take_generic,
)
from model.release.rules import Refusal
from model.values.qdict import clone
from model.values.state import FrozenDict, Node

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from model.release.dialect import Dialect

NODE = "node"
"""The name of a node in what is said of a declared driver."""


@attrs.frozen
class Declared:
    """A driver and its run-time options, by the first part of their names, without children.

    ``mutable`` may be left out although they are set, ``changes`` may have another value. With
    ``parses`` they go through QEMU's option lists in a reopen, and come out as strings.
    """

    name: str
    options: tuple[str, ...] = ()
    can_reopen: bool = True
    mutable: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    parses: bool = False

    def look_up(self, keys: Iterable[str], *, common: Collection[str]) -> None:
        """Raise LookupError for an option that there is not."""
        for key in keys:
            if key not in common and key.split(".")[0] not in self.options:
                raise LookupError(f"{self.name} has no option {key!r}")

    def take(self, rest: FlatOptions) -> None:
        """Take out of ``rest`` what the driver can change."""
        for key in list(rest):
            if key in self.changes:
                del rest[key]
            elif self.parses and key in self.options:
                rest[key] = as_string(rest.pop(key))


def _host(name: str) -> Declared:
    """The other drivers of file-posix do with their options what ``file`` does."""
    changes = File.changes
    return Declared(name, tuple(File.kinds), True, File.mutable, changes, parses=True)


DECLARED: dict[str, Declared] = {
    each.name: each
    for each in (
        _host("host_cdrom"),
        _host("host_device"),
        Declared(
            "iscsi",
            (
                "header-digest",
                "initiator-name",
                "lun",
                "password-secret",
                "portal",
                "target",
                "timeout",
                "transport",
                "user",
            ),
        ),
        Declared("luks", ("key-secret",)),
        Declared("nvme", ("device", "namespace")),
        Declared("qcow", ("encrypt",)),
        Declared(
            "rbd",
            (
                "auth-client-required",
                "conf",
                "encrypt",
                "image",
                "key-secret",
                "namespace",
                "pool",
                "server",
                "snapshot",
                "user",
            ),
        ),
        Declared("replication", ("mode", "top-id"), can_reopen=False),
        Declared("sheepdog", ("server", "snap-id", "tag", "vdi")),
        Declared("vpc"),
    )
}
"""Every one by name."""


def answer(
    dialect: Dialect, driver: str, was: Mapping[str, Any], given: Mapping[str, Any]
) -> str | None:
    """The error of a reopen of a declared driver's node, None where the options are accepted.

    ``was`` are the options of the node and ``given`` those of the reopen, flat and without
    children. Only options are judged, not what a host or server says. Raises LookupError for a
    driver that is not declared, or an option that it does not have.
    """
    declared = DECLARED[driver]
    declared.look_up([*was, *given], common={*COMMON, *_STAYING})
    ev = dialect.evaluation()
    node = Node(NODE, driver, options=FrozenDict({**was, "driver": driver}))
    rest = clone({**given, "driver": driver})
    try:
        take_generic(ev, rest, unmap=False)
        check_omitted(ev, node, declared, rest)
        declared.take(rest)
        check_unchanged(ev, node, rest)
    except Refusal as refusal:
        return refusal.text
    return None
