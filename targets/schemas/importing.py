# SPDX-License-Identifier: GPL-2.0-or-later
"""Make a schema document from a build of QEMU: what it says, and what it only shows.

``query-qmp-schema`` lists the members of every type in the order in which the
daemon visits them, but it hides four things that its error texts depend on:
the width of integers, the names of alternates, which commands look at their
arguments themselves, and the wording. Those
are found by experiment. Every experiment carries a member that no release
knows, so that no command is ever executed.

Use: ``python -m targets.schemas.importing ARGV... > model/release/schemas/qemu-X.Y.json``,
where ARGV starts a storage daemon or a system emulator.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

from model.values.programs import STORAGE_DAEMON, Program
from targets.builds.binaries import ALL, DAEMON, find_driven
from targets.errors import TargetError
from targets.schemas.devices import devices
from targets.schemas.monitor import SENSELESS, SchemaImportError, bare_monitor
from targets.schemas.type_import import TypeImport
from targets.wire.messages import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.values.trace import Json
    from targets.walls.standing import Walls

FORMAT = 1
"""The version of the document's layout."""

_VALUES_ON_A_LINE = 6

_OBJECT_TYPES = {"execute": "qom-list-types", "arguments": {"implements": "user-creatable"}}


def import_schema(
    argv: Sequence[str], program: Program = STORAGE_DAEMON, walls: Walls = ALL
) -> dict[str, Any]:
    """Ask the build of a program that ``argv`` starts for its schema.

    The result has ``release``, ``commands`` (name to the name of the type of its
    arguments, "any" where no schema checks them), ``other_commands`` (names only), ``objects``
    (the types of objects that clients can make in this program),
    ``texts`` (templates) and ``types``: a type is ``{"members": [...]}`` with an optional
    ``tag`` and
    ``variants``, ``{"enum": [...]}`` or ``{"alternate": [...]}``; ``[T]`` is a
    list of T. Members stand in the order in which they are visited. Where there is a machine,
    ``devices`` has what device_add takes. Raises
    `SchemaImportError`.
    """
    try:
        return _imported(argv, program, walls)
    except SENSELESS as error:
        kind = type(error).__name__
        text = f"what it says of itself is no schema ({kind}: {quoted(str(error).encode())})"
        raise SchemaImportError(text) from error


def _imported(argv: Sequence[str], program: Program, walls: Walls) -> dict[str, Any]:
    with bare_monitor(argv, program, walls) as monitor:
        names = ["query-qmp-schema", "query-commands"]
        replies = monitor.send_all([*({"execute": name} for name in names), _OBJECT_TYPES])
        for reply in replies:
            if "error" in reply:
                raise SchemaImportError(f"no schema: {reply['error']['desc']}")
        entries, listed, creatable = (reply["return"] for reply in replies)
        offered = {each["name"] for each in listed}
        importer = TypeImport(entries, monitor)
        commands = importer.commands(offered)
        document = {
            "format": FORMAT,
            "release": monitor.release,
            "commands": commands,
            "other_commands": sorted(offered - set(commands)),
            "objects": sorted(each["name"] for each in creatable),
            "texts": importer.texts(),
            "types": dict(sorted(importer.types.items())),
        }
        if "device_add" in offered:
            with bare_monitor(argv, program, walls) as fresh:
                document["devices"] = devices(monitor, fresh)
        return document


def render(document: dict[str, Any]) -> str:
    """The document as JSON text with one command, text or member on a line."""

    def lines(value: dict[str, Json]) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items())

    def one_type(name: str, description: dict[str, Json]) -> str:
        parts = []
        for key, value in description.items():
            long = key == "members" or (key == "enum" and len(value) > _VALUES_ON_A_LINE)
            if long and value:
                body = ",\n".join(f"   {json.dumps(each)}" for each in value)
                parts.append(f'"{key}": [\n{body}\n  ]')
            elif key == "variants":
                cases = ",\n".join(f"   {json.dumps(c)}: {json.dumps(t)}" for c, t in value.items())
                parts.append(f'"variants": {{\n{cases}\n  }}')
            else:
                parts.append(f'"{key}": {json.dumps(value)}')
        return f"  {json.dumps(name)}: {{{', '.join(parts)}}}"

    others = ",\n".join(f"  {json.dumps(name)}" for name in document["other_commands"])
    objects = ",\n".join(f"  {json.dumps(name)}" for name in document["objects"])
    types = ",\n".join(one_type(name, each) for name, each in document["types"].items())
    return (
        f'{{\n "format": {document["format"]},\n "release": {json.dumps(document["release"])},\n'
        f' "commands": {{\n{lines(document["commands"])}\n }},\n'
        f' "other_commands": [\n{others}\n ],\n'
        f' "objects": [\n{objects}\n ],\n'
        f' "texts": {{\n{lines(document["texts"])}\n }},\n'
        f' "types": {{\n{types}\n }}{_render_devices(document)}\n}}\n'
    )


def _render_devices(document: dict[str, Any]) -> str:
    """The part of the devices, if there is one: a list, or what belongs to a device, on a line."""
    if "devices" not in document:
        return ""
    parts = []
    for key, value in document["devices"].items():
        if key in ("refused", "properties"):
            body = ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f"  {json.dumps(key)}: {{\n{body}\n  }}")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return ',\n "devices": {\n' + ",\n".join(parts) + "\n }"


def main() -> int:
    """Print the schema document of the daemon that the command line starts."""
    try:
        build = find_driven(shlex.join(sys.argv[1:]) or DAEMON)
        sys.stdout.write(render(import_schema(build.argv, build.program)))
    except TargetError as error:
        sys.stderr.write(f"schema import: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
