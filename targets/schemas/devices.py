# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine has to offer to device_add."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from targets.schemas.monitor import PROBE, SchemaImportError

if TYPE_CHECKING:
    from model.values.trace import Json
    from targets.schemas.monitor import BareMonitor

DEVICES = ("scsi-hd", "virtio-blk-pci", "virtio-scsi-pci")
"""The devices whose properties are imported."""

_NAME = re.compile(r'^name "([^"]+)"', re.MULTILINE)
_ALIAS = re.compile(r'name "([^"]+)".*, alias "([^"]+)"')
_BUS = re.compile(r"^ *bus: (\S+)\n *type (\S+)$", re.MULTILINE)


def devices(monitor: BareMonitor, fresh: BareMonitor) -> dict[str, Json]:
    """What the machine has to offer to device_add; see :class:`model.release.catalogue.Catalogue`.

    Asking for lists loads modules with more types; what is refused is asked of a ``fresh`` one.
    """
    found = _asked(monitor, "qom-list-types", implements="device", abstract=True)
    lines = _human(monitor, "device_add help")
    offered = set(_NAME.findall(lines))
    types = sorted(each["name"] for each in found if each["name"] in offered)
    others = sorted({each["name"] for each in found} - offered)
    return {
        "types": types,
        "refused": _refused(fresh, others),
        "aliases": dict(sorted((alias, name) for name, alias in _ALIAS.findall(lines))),
        "buses": dict(sorted(_BUS.findall(_human(monitor, "info qtree")))),
        "places": sorted(_places(monitor)),
        "properties": {
            driver: dict(
                sorted(
                    (each["name"], each["type"])
                    for each in _asked(monitor, "qom-list-properties", typename=driver)
                )
            )
            for driver in DEVICES
        },
    }


def _refused(monitor: BareMonitor, drivers: list[str]) -> dict[str, list[str]]:
    """Types of devices that the machine never takes, by what it says that it expects instead."""
    probes = [_request("device_add", driver=driver, **{PROBE: 1}) for driver in drivers]
    found: dict[str, list[str]] = {}
    for driver, reply in zip(drivers, monitor.send_all(probes), strict=True):
        text: str = reply.get("error", {}).get("desc", "")
        _, refused, expected = text.partition("Parameter 'driver' expects ")
        if refused:
            found.setdefault(expected, []).append(driver)
        elif "is not a valid device model name" not in text:
            raise SchemaImportError(f"device_add takes {driver}, which it does not list")
    return dict(sorted(found.items()))


def _places(monitor: BareMonitor) -> set[str]:
    """The names in the tree of objects without those that are numbered."""
    found: set[str] = set()
    paths = ["/"]
    while paths:
        replies = monitor.send_all([_request("qom-list", path=path) for path in paths])
        below = []
        for path, reply in zip(paths, replies, strict=True):
            for each in reply["return"]:
                kind = each["type"].partition("<")[0]
                if kind in ("child", "link") and not each["name"].endswith("]"):
                    found.add(each["name"])
                if kind == "child":
                    below.append(f"{path.rstrip('/')}/{each['name']}")
        paths = below
    return found


def _request(command: str, **arguments: Json) -> dict[str, Json]:
    return {"execute": command, "arguments": arguments}


def _asked(monitor: BareMonitor, command: str, **arguments: Json) -> Json:
    reply = monitor.send(_request(command, **arguments))
    if "error" in reply:
        raise SchemaImportError(f"{command}: {reply['error']['desc']}")
    return reply["return"]


def _human(monitor: BareMonitor, line: str) -> str:
    """What a command for people prints: no other tells these things."""
    text: str = _asked(monitor, "human-monitor-command", **{"command-line": line})
    return text.replace("\r", "")
