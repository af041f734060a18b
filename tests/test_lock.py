# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock: everything pinned, with hashes and without addresses, as pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = ("linux", "darwin", "win32")

_HASH = re.compile(r" --hash=sha256:[0-9a-f]{64}(?= |$)")
_PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][^ ;*]*( ; .*)?")


def environments() -> Iterator[dict[str, str]]:
    for python in PYTHONS:
        for system in SYSTEMS:
            yield {
                **{key: str(value) for key, value in default_environment().items()},
                "python_version": python,
                "python_full_version": f"{python}.9",
                "sys_platform": system,
            }


def asked_for(project: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for: to run, to develop, to measure and to build."""
    table = tomllib.loads(project)
    extras = table["project"]["optional-dependencies"].values()
    for text in [
        *table["project"]["dependencies"],
        *(text for extra in extras for text in extra),
        *table["build-system"]["requires"],
    ]:
        yield Requirement(text)


def entries(lock: str) -> Iterator[tuple[str, bool]]:
    """Each line that is meant for pip without its hashes, and whether it has any."""
    for line in lock.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield _HASH.sub("", line).strip(), _HASH.search(line) is not None


def problems(lock: str, project: str) -> list[str]:
    """What is wrong with a lock: a line for each."""
    found = ["an address"] if re.search(r"[a-z]+://", lock) else []
    found += [f"no hash: {text}" for text, hashed in entries(lock) if not hashed]
    pins = []
    for text, _ in entries(lock):
        if _PIN.fullmatch(text):
            pins.append(Requirement(text))
        else:
            found.append(f"not pinned: {text}")
    for environment in environments():
        found += unsatisfied(pins, project, environment)
    return found


def unsatisfied(pins: list[Requirement], project: str, environment: dict[str, str]) -> list[str]:
    """What the project asks for and the lock does not hold, in one environment."""
    found = []
    active: dict[str, str] = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            if name in active:
                found.append(f"pinned twice: {name}")
            active[name] = str(pin.specifier).removeprefix("==")
    for wanted in asked_for(project):
        version = active.get(canonicalize_name(wanted.name))
        if version is None:
            found.append(f"missing: {wanted}")
        elif not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted}: the lock has {version}")
    return found


def test_the_lock_holds_what_the_project_asks_for() -> None:
    assert problems(LOCK, PROJECT) == []


def test_every_range_has_a_lower_bound() -> None:
    for wanted in asked_for(PROJECT):
        assert [each.operator for each in wanted.specifier] == [">="], wanted


def _without(name: str) -> str:
    return re.sub(rf"(?m)^{name}==.*\n(    .*\n)*", "", LOCK)


@pytest.mark.parametrize(
    ("lock", "project", "says"),
    [
        (_without("attrs"), PROJECT, "missing: attrs"),
        (_without("setuptools"), PROJECT, "missing: setuptools"),
        (re.sub(r"(?m)^attrs==.*", r"attrs==1.0 \\", LOCK), PROJECT, "attrs>=23.2: the lock has"),
        (re.sub(r"(?m)^attrs==.*", r"attrs>=1.0 \\", LOCK), PROJECT, "not pinned: attrs"),
        (re.sub(r"(?m)^attrs==.*", r"attrs==26.* \\", LOCK), PROJECT, "not pinned: attrs"),
        (LOCK + "odd==1.0\n", PROJECT, "no hash: odd"),
        (LOCK + f"odd==1.0 --hash=sha256:{'0' * 63}\n", PROJECT, "not pinned: odd"),
        (LOCK + "odd==1.0 --hash=md5:0\n", PROJECT, "not pinned: odd"),
        (LOCK + "--index-url https://example.invalid\n", PROJECT, "an address"),
        (LOCK + LOCK, PROJECT, "pinned twice"),
        (LOCK, PROJECT.replace("attrs>=23.2", "attrs>=9999"), "attrs>=9999: the lock has"),
        (LOCK, PROJECT.replace('"rich>=13"', '"rich>=13", "other>=1"'), "missing: other"),
    ],
)
def test_a_wrong_lock_is_noticed(lock: str, project: str, says: str) -> None:
    assert (lock, project) != (LOCK, PROJECT)
    assert any(line.startswith(says) for line in problems(lock, project))
