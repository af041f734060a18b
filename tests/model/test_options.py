# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reopen may do to options, of nodes and of drivers that are only declared."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_10_0 import QEMU_10_0
from model.release.dialects.qemu_11_1 import QEMU_11_1
from model.release.dialects.series_v1 import SERIES_V1
from model.drivers import DRIVERS
from model.drivers.declared import DECLARED
from model.drivers.file import File
from model.operations.reopen_options import answer

CANNOT_RESET = "Option '{}' cannot be reset to its default value"
CANNOT_CHANGE = "Cannot change the option '{}'"
RELEASES = (QEMU_5_2, QEMU_7_2, QEMU_10_0, QEMU_11_1)
CHILDREN = {"BlockdevRef", "BlockdevRefOrNull"}


def own_options(driver: str) -> set[str]:
    """The options of a driver, without children, by the schemas of all releases."""
    found: set[str] = set()
    for dialect in RELEASES:
        types = dialect.schema.types
        described = types.get(types["blockdev-add.arg"]["variants"].get(driver, ""), {})
        members = described.get("members", ())
        found |= {each["name"] for each in members if each["type"] not in CHILDREN}
    return found


@pytest.mark.parametrize("driver", sorted(DECLARED))
def test_the_options_are_those_of_the_schemas(driver: str) -> None:
    declared = DECLARED[driver]
    assert set(declared.options) == own_options(driver)
    assert declared.mutable <= declared.changes <= set(declared.options)


def test_no_driver_is_declared_that_has_nodes() -> None:
    assert not DECLARED.keys() & DRIVERS.keys()


@pytest.mark.parametrize("dialect", [*RELEASES, SERIES_V1])
@pytest.mark.parametrize(
    ("driver", "option"),
    [
        (driver.name, option)
        for driver in DECLARED.values()
        for option in driver.options
        if driver.can_reopen
    ],
)
def test_every_option_is_kept_and_few_may_go_or_change(
    driver: str, option: str, dialect: Any
) -> None:
    declared = DECLARED[driver]
    said = [answer(dialect, driver, {option: "x"}, {option: v}) for v in ("x", "y")]
    assert said[0] is None
    assert said[1] == (None if option in declared.changes else CANNOT_CHANGE.format(option))
    omitted = answer(dialect, driver, {option: "x"}, {})
    assert omitted == (None if option in declared.mutable else CANNOT_RESET.format(option))
    added = answer(dialect, driver, {}, {option: "x"})
    assert added == (None if option in declared.changes else CANNOT_CHANGE.format(option))


def test_only_the_drivers_of_file_posix_have_something_to_change() -> None:
    changing = {each.name for each in DECLARED.values() if each.changes or each.mutable}
    assert changing == {"host_cdrom", "host_device"}


def test_an_option_below_another_is_told_by_its_whole_name() -> None:
    was = {"encrypt.format": "aes", "encrypt.key-secret": "s"}
    given = {**was, "encrypt.key-secret": "t"}
    assert answer(QEMU_5_2, "qcow", was, given) == CANNOT_CHANGE.format("encrypt.key-secret")


def test_generic_options_come_and_go_with_every_driver() -> None:
    was = {"device": "d", "namespace": 1, "read-only": True, "detect-zeroes": "on"}
    given = {"device": "d", "namespace": 1, "cache.direct": True, "discard": "unmap"}
    assert answer(QEMU_5_2, "nvme", was, given) is None
    assert answer(QEMU_5_2, "nvme", was, {**given, "detect-zeroes": "unmap"}) is None
    refused = answer(QEMU_5_2, "nvme", {"device": "d"}, {"device": "d", "detect-zeroes": "unmap"})
    assert refused is not None
    assert "discard" in refused


def test_a_number_that_becomes_a_string_is_another_one() -> None:
    was = {"filename": "/dev/sr0", "aio-max-batch": 1}
    assert answer(QEMU_7_2, "host_cdrom", was, was) == CANNOT_CHANGE.format("aio-max-batch")
    lun = {"lun": 1}
    assert answer(QEMU_7_2, "iscsi", lun, lun) is None


def test_a_driver_that_cannot_be_reopened() -> None:
    was = {"mode": "primary"}
    told = answer(QEMU_5_2, "replication", was, was)
    assert told == (
        "Block format 'replication' used by node 'node' does not support reopening files"
    )


@pytest.mark.parametrize(("driver", "option"), [("qed", "x"), ("iscsi", "size"), ("vpc", "file")])
def test_what_is_not_declared_has_no_answer(driver: str, option: str) -> None:
    with pytest.raises(LookupError):
        answer(QEMU_5_2, driver, {option: "x"}, {})


@pytest.mark.parametrize(
    ("rule", "given"),
    [("reopen.reset", {}), ("reopen.unchanged", {"key-secret": "t"})],
)
def test_the_rules_are_those_of_every_node(rule: str, given: dict[str, Any]) -> None:
    """Without a rule neither a declared driver nor a node refuses."""
    was = {"key-secret": "s"}
    assert answer(SERIES_V1, "luks", was, given) is not None
    assert answer(SERIES_V1.without(rule), "luks", was, given) is None
    sizes = {"reopen.reset": {}, "reopen.unchanged": {"size": 1024}}
    for dialect, accepted in ((SERIES_V1, False), (SERIES_V1.without(rule), True)):
        monitor = Monitor(dialect)
        node = {"driver": "null-co", "node-name": "n"}
        add = {"execute": "blockdev-add", "arguments": {**node, "size": 512}}
        monitor.execute(add)
        reopen = {"execute": "x-blockdev-reopen", "arguments": {**node, **sizes[rule]}}
        assert ("return" in monitor.execute(reopen)) is accepted


def test_without_the_rule_every_driver_can_be_reopened() -> None:
    changed = SERIES_V1.without("reopen.unsupported")
    assert answer(changed, "replication", {"mode": "primary"}, {"mode": "primary"}) is None


def test_the_host_drivers_are_as_file_is() -> None:
    for name in ("host_cdrom", "host_device"):
        assert DECLARED[name].mutable == File.mutable
        assert DECLARED[name].changes == File.changes
