# SPDX-License-Identifier: GPL-2.0-or-later
"""What the gate reads of a ``json:`` name is what each release reads of it."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from model.release.dialects import DIALECTS
from model.values.programs import STORAGE_DAEMON
from model.values.trace import ImageSpec
from targets.daemon import Daemon
from targets.json_names import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model.release.dialect import Dialect
    from targets.binaries import Build
    from targets.images import ImageStore

MIB = 1 << 20
DAEMONS = [each for each in DIALECTS.values() if each.program is STORAGE_DAEMON]
NAMES = (
    'json:{"driver":"null-co","size":512}',
    "json:{'driver':'null-co','size':1024}",
    'json:{\'driver\':"null-co","size":1536} \n\t\r',
    "json: {'driver':'null\\u002dco','s\\u0069ze':2048}",
    'json:{"driver":"null-co","size":512,"size":1024}',
    "json:{'driver':'file','driver':'null-co'}",
    'json:{/* */"driver":"null-co"}',
    'json:{"driver":"null-co"// \n}',
    'json:{"driver":"null-co"}{}',
    'json:{"driver":"null-co"}x',
    'json:{"driver":"null-co",}',
    "json:{driver:'null-co'}",
    "json:{'driver':'null-co','size':017}",
    "json:{'driver':'null-co','size':NaN}",
    "json:{'driver':%s}",
    "json:{'driver':'null\\-co'}",
    "json:{'driver':'null\1-co'}",
    "json:{'driver':'null-co'",
    'json:\ufeff{"driver":"null-co"}',
    'json:{"driver":"null-co",\f"size":512}',
    'json:{"driver":"null-co",\xa0"size":512}',
)
UNREAD = ("JSON parse error", "Expecting at most one JSON value")


def _tell(image: Path, name: str) -> None:
    """Make a name that of the backing file, where there is one as long as it."""
    data = bytearray(image.read_bytes())
    offset, length = struct.unpack_from(">QI", data, 8)
    assert length == len(name.encode())
    data[offset : offset + length] = name.encode()
    image.write_bytes(data)


@pytest.mark.parametrize("dialect", DAEMONS, ids=lambda each: each.name)
def test_each_release_reads_a_name_as_the_gate_does(
    dialect: Dialect,
    build_of: Callable[[Dialect], Build],
    images: ImageStore,
    tmp_path: Path,
) -> None:
    with Daemon(build_of(dialect), tmp_path) as daemon:

        def ask(execute: str, **arguments: Any) -> dict[str, Any]:
            daemon.connection.send(
                json.dumps({"execute": execute, "arguments": arguments}).encode()
            )
            (line, *_) = daemon.connection.receive(10)
            answer: dict[str, Any] = json.loads(line)
            return answer

        for number, name in enumerate(NAMES):
            file = f"hd{number}.qcow2"
            told = "x" * len(name.encode())
            images.create(daemon.directory, [ImageSpec(file, "qcow2", MIB, told)])
            _tell(daemon.directory / file, name)
            options = {"driver": "qcow2", "file": {"driver": "file", "filename": file}}
            added = ask("blockdev-add", **{"node-name": "n", **options})
            try:
                value = parse(name)
            except ValueError:
                assert any(each in added["error"]["desc"] for each in UNREAD), name
                continue
            assert added == {"return": {}}, name
            nodes = ask("query-named-block-nodes", flat=True)["return"]
            (null,) = [node for node in nodes if node["drv"] == "null-co"]
            assert null["image"]["virtual-size"] == value["size"]
            assert ask("blockdev-del", **{"node-name": "n"}) == {"return": {}}
