# SPDX-License-Identifier: GPL-2.0-or-later
"""Input checking against texts that the storage daemon of 7.2.22 gave."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from model.release.schema import NO_ID, Member, Schema, SchemaError, UnknownSchemaError, UnmodelledCommandError, answer, check_envelope

RECORDED: list[tuple[str, dict[str, Any], str]] = [
    ("blockdev-add", {}, "Parameter 'driver' is missing"),
    ("blockdev-add", {"driver": "no"}, "Parameter 'driver' does not accept value 'no'"),
    ("blockdev-add", {"driver": 5}, "Invalid parameter type for 'driver', expected: string"),
    ("blockdev-add", {"driver": None}, "Invalid parameter type for 'driver', expected: string"),
    (
        "blockdev-add",
        {"driver": "null-co", "node-name": 5, "discard": "no"},
        "Invalid parameter type for 'node-name', expected: string",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "discard": "no", "node-name": 5},
        "Invalid parameter type for 'node-name', expected: string",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "discard": True},
        "Invalid parameter type for 'discard', expected: string",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "cache": True},
        "Invalid parameter type for 'cache', expected: object",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "cache": {"direct": "on"}},
        "Invalid parameter type for 'cache.direct', expected: boolean",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "cache": {"direct": True, "writeback": True}},
        "Parameter 'cache.writeback' is unexpected",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "size": "1"},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "size": 1.0},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "size": True},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "size": None},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "size": 9223372036854775808},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "latency-ns": "1"},
        "Parameter 'latency-ns' expects uint64",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "latency-ns": 18446744073709551616},
        "Parameter 'latency-ns' expects uint64",
    ),
    (
        "blockdev-add",
        {"driver": "null-co", "latency-ns": -9223372036854775809},
        "Parameter 'latency-ns' expects uint64",
    ),
    ("blockdev-add", {"driver": "null-co", "zz": 1}, "Parameter 'zz' is unexpected"),
    ("blockdev-add", {"driver": "null-co", "a": 1, "b": 2, "c": 3}, "Parameter 'b' is unexpected"),
    ("blockdev-add", {"driver": "null-co", "c": 1, "b": 2, "a": 3}, "Parameter 'b' is unexpected"),
    ("blockdev-add", {"driver": "null-co", "file": "x"}, "Parameter 'file' is unexpected"),
    (
        "blockdev-add",
        {"driver": "null-co", "filename": "x", "size": "x"},
        "Invalid parameter type for 'size', expected: integer",
    ),
    (
        "blockdev-add",
        {
            "driver": "null-co",
            "k0": 0,
            "k1": 1,
            "k2": 2,
            "k3": 3,
            "k4": 4,
            "k5": 5,
            "k6": 6,
            "k7": 7,
            "k8": 8,
            "k9": 9,
            "k10": 10,
            "k11": 11,
            "k12": 12,
            "k13": 13,
            "k14": 14,
            "k15": 15,
            "k16": 16,
            "k17": 17,
            "k18": 18,
            "k19": 19,
        },
        "Parameter 'k7' is unexpected",
    ),
    ("blockdev-add", {"driver": "raw"}, "Parameter 'file' is missing"),
    (
        "blockdev-add",
        {"driver": "raw", "file": None},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    (
        "blockdev-add",
        {"driver": "raw", "file": 1},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    (
        "blockdev-add",
        {"driver": "raw", "file": []},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    ("blockdev-add", {"driver": "raw", "file": {}}, "Parameter 'file.driver' is missing"),
    (
        "blockdev-add",
        {"driver": "raw", "file": {"driver": "file"}},
        "Parameter 'file.filename' is missing",
    ),
    (
        "blockdev-add",
        {
            "driver": "raw",
            "file": {"driver": "raw", "file": {"driver": "null-co", "read-only": "off"}},
        },
        "Invalid parameter type for 'file.file.read-only', expected: boolean",
    ),
    (
        "blockdev-add",
        {
            "driver": "raw",
            "file": {"driver": "raw", "file": {"driver": "null-co", "discard": "no"}},
        },
        "Parameter 'discard' does not accept value 'no'",
    ),
    (
        "blockdev-add",
        {"driver": "raw", "file": {"driver": "null-co", "x": 1}, "y": 1},
        "Parameter 'file.x' is unexpected",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "backing": 5},
        "Invalid parameter type for 'backing', expected: BlockdevRefOrNull",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "backing": {}},
        "Parameter 'backing.driver' is missing",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "backing": None, "cache-size": "1M"},
        "Invalid parameter type for 'cache-size', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "overlap-check": "some"},
        "Parameter 'overlap-check' does not accept value 'some'",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "overlap-check": 1},
        "Invalid parameter type for 'overlap-check', expected: Qcow2OverlapChecks",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "overlap-check": {"template": "some"}},
        "Parameter 'template' does not accept value 'some'",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "overlap-check": {"zz": 1}},
        "Parameter 'overlap-check.zz' is unexpected",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "encrypt": {}},
        "Parameter 'encrypt.format' is missing",
    ),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": "f", "encrypt": {"format": "luks", "x": 1}},
        "Parameter 'encrypt.x' is unexpected",
    ),
    ("blockdev-add", {"driver": "quorum", "vote-threshold": 1}, "Parameter 'children' is missing"),
    (
        "blockdev-add",
        {"driver": "quorum", "vote-threshold": 1, "children": {}},
        "Invalid parameter type for 'children', expected: array",
    ),
    (
        "blockdev-add",
        {"driver": "quorum", "vote-threshold": 1, "children": [1]},
        "Invalid parameter type for 'null', expected: BlockdevRef",
    ),
    (
        "blockdev-add",
        {"driver": "quorum", "vote-threshold": 1, "children": ["a", {"driver": "raw"}]},
        "Parameter 'children[1].file' is missing",
    ),
    (
        "blockdev-add",
        {
            "driver": "quorum",
            "vote-threshold": 1,
            "children": ["a", {"driver": "null-co", "discard": 1}, None],
        },
        "Invalid parameter type for 'children[1].discard', expected: string",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "max-transfer": 2147483648},
        "Parameter 'max-transfer' expects int32_t",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "max-transfer": 9223372036854775808},
        "Invalid parameter type for 'max-transfer', expected: integer",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "inject-error": [{"event": "zz"}]},
        "Parameter 'event' does not accept value 'zz'",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "inject-error": [5]},
        "Invalid parameter type for 'inject-error[0]', expected: object",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "take-child-perms": ["read"]},
        "Parameter 'null' does not accept value 'read'",
    ),
    (
        "blockdev-add",
        {"driver": "blkdebug", "image": "x", "take-child-perms": [None]},
        "Invalid parameter type for 'take-child-perms[0]', expected: string",
    ),
    (
        "blockdev-add",
        {
            "driver": "nbd",
            "server": {"type": "inet", "host": "h", "port": "1"},
            "reconnect-delay": -1,
        },
        "Parameter 'reconnect-delay' expects uint32_t",
    ),
    ("blockdev-reopen", {}, "Parameter 'options' is missing"),
    ("blockdev-reopen", {"options": {}}, "Invalid parameter type for 'options', expected: array"),
    (
        "blockdev-reopen",
        {"options": [5]},
        "Invalid parameter type for 'options[0]', expected: object",
    ),
    (
        "blockdev-reopen",
        {"options": [{"driver": "null-co"}, {}]},
        "Parameter 'options[1].driver' is missing",
    ),
    (
        "blockdev-reopen",
        {"options": [{"driver": "raw", "file": 1}]},
        "Invalid parameter type for 'file', expected: BlockdevRef",
    ),
    (
        "blockdev-reopen",
        {"options": [{"driver": "raw", "file": {"driver": "file", "filename": 1}}]},
        "Invalid parameter type for 'options[0].file.filename', expected: string",
    ),
    (
        "blockdev-reopen",
        {"options": [{"driver": "null-co", "x": 1}]},
        "Parameter 'options[0].x' is unexpected",
    ),
    ("blockdev-reopen", {"options": [], "x": 1}, "Parameter 'x' is unexpected"),
    ("object-add", {}, "Parameter 'qom-type' is missing"),
    ("object-add", {"qom-type": "throttle-group"}, "Parameter 'id' is missing"),
    (
        "object-add",
        {"qom-type": "zz", "id": "x"},
        "Parameter 'qom-type' does not accept value 'zz'",
    ),
    (
        "object-add",
        {"qom-type": "throttle-group", "id": "x", "limits": 1},
        "Invalid parameter type for 'limits', expected: object",
    ),
    (
        "object-add",
        {"qom-type": "throttle-group", "id": "x", "limits": {"iops-total": "x"}},
        "Invalid parameter type for 'limits.iops-total', expected: integer",
    ),
    (
        "object-add",
        {"qom-type": "throttle-group", "id": "x", "x-iops-total": "x"},
        "Invalid parameter type for 'x-iops-total', expected: integer",
    ),
    (
        "object-add",
        {"qom-type": "throttle-group", "id": "x", "iops-total": 1},
        "Parameter 'iops-total' is unexpected",
    ),
    (
        "object-add",
        {"qom-type": "iothread", "id": "x", "poll-max-ns": "x"},
        "Invalid parameter type for 'poll-max-ns', expected: integer",
    ),
    ("object-del", {}, "Parameter 'id' is missing"),
    (
        "blockdev-del",
        {"node-name": None},
        "Invalid parameter type for 'node-name', expected: string",
    ),
    (
        "block_resize",
        {"size": "1M", "node-name": "x"},
        "Invalid parameter type for 'size', expected: integer",
    ),
    ("block_resize", {"node-name": "x"}, "Parameter 'size' is missing"),
    ("blockdev-snapshot", {"node": "x"}, "Parameter 'overlay' is missing"),
    ("x-blockdev-change", {"parent": 1}, "Invalid parameter type for 'parent', expected: string"),
    (
        "query-named-block-nodes",
        {"flat": 1},
        "Invalid parameter type for 'flat', expected: boolean",
    ),
    ("x-debug-query-block-graph", {"flat": True}, "Parameter 'flat' is unexpected"),
]


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.load("qemu-7.2")


@pytest.mark.parametrize(("command", "arguments", "text"), RECORDED)
def test_recorded_texts(schema: Schema, command: str, arguments: dict[str, Any], text: str) -> None:
    before = copy.deepcopy(arguments)
    with pytest.raises(SchemaError) as caught:
        schema.check(command, arguments)
    assert caught.value.reply == {"error": {"class": "GenericError", "desc": text}}
    assert arguments == before


def test_accepted_members_stand_in_order_of_visiting(schema: Schema) -> None:
    arguments = {
        "options": [
            {
                "lazy-refcounts": True,
                "file": {"filename": "hd0.qcow2", "node-name": "f0", "driver": "file"},
                "backing": None,
                "cache": {"no-flush": False, "direct": True},
                "node-name": "hd0",
                "driver": "qcow2",
            }
        ]
    }
    checked = schema.check("blockdev-reopen", arguments)
    assert checked == arguments
    (options,) = checked["options"]
    assert list(options) == ["driver", "node-name", "cache", "file", "backing", "lazy-refcounts"]
    assert list(options["file"]) == ["driver", "node-name", "filename"]
    assert list(options["cache"]) == ["direct", "no-flush"]


def test_the_result_shares_nothing_with_the_input(schema: Schema) -> None:
    arguments: dict[str, Any] = {"driver": "raw", "file": {"driver": "null-co"}}
    checked = schema.check("blockdev-add", arguments)
    arguments["file"]["driver"] = "file"
    assert checked == {"driver": "raw", "file": {"driver": "null-co"}}


def test_negative_numbers_for_unsigned_members_wrap(schema: Schema) -> None:
    checked = schema.check("blockdev-add", {"driver": "null-co", "latency-ns": -1})
    assert checked["latency-ns"] == 2**64 - 1


@pytest.mark.parametrize("size", [0, -1, 2**63 - 1, -(2**63)])
def test_signed_members_take_64_bits(schema: Schema, size: int) -> None:
    assert schema.check("block_resize", {"size": size}) == {"size": size}


def test_commands(schema: Schema) -> None:
    with pytest.raises(SchemaError, match=r"^The command nope has not been found$") as caught:
        schema.check("nope", {})
    assert caught.value.cls == "CommandNotFound"
    with pytest.raises(UnmodelledCommandError):
        schema.check("block-dirty-bitmap-clear", {})
    assert schema.knows("block-dirty-bitmap-clear")
    assert schema.knows("blockdev-add")
    assert not schema.knows("nope")


def test_envelope() -> None:
    assert check_envelope({"execute": "a"}) == ("a", {}, NO_ID)
    assert check_envelope({"execute": "a", "arguments": {"b": 1}, "id": None}) == (
        "a",
        {"b": 1},
        None,
    )


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ([], "QMP input must be a JSON object"),
        ({}, "QMP input lacks member 'execute'"),
        ({"execute": 5}, "QMP input member 'execute' must be a string"),
        ({"execute": "x", "arguments": []}, "QMP input member 'arguments' must be an object"),
        ({"exec-oob": "x"}, "QMP input member 'exec-oob' is unexpected"),
        ({"foo": 1, "bar": 2, "id": 7, "arguments": 5}, "QMP input member 'bar' is unexpected"),
    ],
)
def test_envelope_texts(request_: Any, text: str) -> None:
    with pytest.raises(SchemaError) as caught:
        check_envelope(request_)
    assert (caught.value.text, caught.value.cls) == (text, "GenericError")


def test_answers_carry_the_id_as_it_was_parsed() -> None:
    reply: dict[str, Any] = {"return": {}}
    assert answer({"execute": "a"}, reply) == reply
    assert answer([], reply) == reply
    assert answer({"id": None}, reply) == {"return": {}, "id": None}
    assert answer({"id": [True, 2**64, {"a": 2**63}]}, reply)["id"] == [True, 2.0**64, {"a": 2**63}]


def test_members_of_drivers(schema: Schema) -> None:
    names = [member.name for member in schema.members("blockdev-add.arg", "raw")]
    assert names[:2] == ["driver", "node-name"]
    assert names[-3:] == ["file", "offset", "size"]
    assert Member("file", "BlockdevRef", optional=False) in schema.members(
        "blockdev-add.arg", "qcow2"
    )
    with pytest.raises(KeyError):
        schema.members("blockdev-add.arg", "no-such-driver")


def test_every_type_that_is_named_exists(schema: Schema) -> None:
    for command in schema.commands:
        with pytest.raises(SchemaError):
            schema.check(command, {"no such member": 1})


def test_loading() -> None:
    assert Schema.load("qemu-7.2") is Schema.load("qemu-7.2")
    with pytest.raises(UnknownSchemaError):
        Schema.load("qemu-0.1")
    with pytest.raises(ValueError, match="format 99"):
        Schema.from_document("x", {"format": 99})


def test_another_release_has_texts_of_its_own() -> None:
    own = Schema.load("qemu-7.2")
    texts = {**own.texts, "enum": "Invalid parameter '{value}'"}
    document = {
        "format": 1,
        "release": "5.2.0",
        "commands": own.commands,
        "other_commands": [],
        "objects": [],
        "texts": texts,
        "types": own.types,
    }
    with pytest.raises(SchemaError, match=r"^Invalid parameter 'zz\{x\}'$"):
        Schema.from_document("qemu-5.2", document).check(
            "blockdev-add", {"driver": "null-co", "discard": "zz{x}"}
        )
