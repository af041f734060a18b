# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine has of what the runs need, and how to get what is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from typing import TYPE_CHECKING

import attrs

from checker.compare.dialect_of import dialect_for
from checker.compare.observations import MASKS, NORMALISATIONS
from model.release.dialects import DIALECTS
from targets.builds.binaries import (
    DAEMON,
    QEMU_IMG,
    QEMU_IO,
    Build,
    find_daemon,
    find_qemu_img,
    find_qemu_io,
)
from targets.errors import TargetError
from targets.walls.standing import WALLS, Walls, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from model.values.trace import Json

PACKAGES = ("attrs", "networkx", "hypothesis", "click", "rich", "msgspec", "jinja2", "junitparser")
"""What the checker imports at run time."""

_INSTALLERS = (
    ("apt-get", "apt-get install qemu-utils"),
    ("dnf", "dnf install qemu-img qemu-kvm-core"),
    ("zypper", "zypper install qemu-tools"),
    ("pacman", "pacman -S qemu-storage-daemon qemu-img"),
    ("apk", "apk add qemu-img qemu-storage-daemon"),
)


@attrs.frozen
class Part:
    """Something that is needed: ``found`` says what there is, ``hint`` how to get it if not."""

    name: str
    present: bool
    found: str
    hint: str = ""

    def as_json(self) -> dict[str, Json]:
        """The part for machines."""
        return attrs.asdict(self)


def how_to_install() -> str:
    """The command that installs QEMU's tools here."""
    for program, command in _INSTALLERS:
        if shutil.which(program):
            return command
    return "install the package of your system that has qemu-storage-daemon and qemu-img"


def _program(name: str, find: Callable[[str], Build]) -> Part:
    try:
        build = find(name)
    except TargetError as error:
        return Part(name, present=False, found=str(error), hint=how_to_install())
    return Part(name, present=True, found=f"{build.version} ({' '.join(build.argv)})")


def parts() -> tuple[Part, ...]:
    """Everything that is needed, found or not."""
    found = [
        Part("python", present=True, found=platform.python_version()),
        _program(DAEMON, find_daemon),
        _program(QEMU_IMG, find_qemu_img),
        _program(QEMU_IO, find_qemu_io),
    ]
    if found[1].present:
        dialect, note = dialect_for(find_daemon(DAEMON))
        found.append(Part("dialect", present=True, found=note or dialect.name))
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            hint = f"pip install {package}"
            found.append(Part(package, present=False, found="not installed", hint=hint))
        else:
            found.append(Part(package, present=True, found=version))
    return tuple(found)


@attrs.frozen
class WallHere:
    """A wall between daemons and the system: whether it stands here, why not, and what helps."""

    name: str
    keeps: str
    stands: bool
    why: str
    hint: str


def walls() -> tuple[WallHere, ...]:
    """Every wall that there is."""
    found = probe()
    return tuple(
        WallHere(wall.name, wall.keeps, **attrs.asdict(found[wall.name])) for wall in WALLS
    )


def notes_on(chosen: Walls) -> list[str]:
    """What to say of walls that do not stand in a run: nothing, usually."""
    notes = []
    cannot = [wall.name for wall in walls() if not wall.stands and wall.name not in chosen.trusted]
    if cannot:
        notes.append(f"walls that do not work here: {', '.join(cannot)} (reopencheck doctor)")
    trusted = [wall.name for wall in WALLS if wall.name not in {*chosen.up, *cannot}]
    if trusted:
        notes.append(f"without the walls that --trust took down: {', '.join(trusted)}")
    return notes


def as_json(
    every: tuple[Part, ...], known: Mapping[str, list[str]], walls_here: tuple[WallHere, ...]
) -> dict[str, Json]:
    """The doctor's findings for machines."""
    return {
        "complete": all(part.present for part in every),
        "parts": [part.as_json() for part in every],
        "walls": [attrs.asdict(wall) for wall in walls_here],
        "dialects": sorted(DIALECTS),
        "masks": [{"member": mask.member, "reason": mask.reason} for mask in MASKS],
        "normalisations": [{"what": n.what, "reason": n.reason} for n in NORMALISATIONS],
        "known_issues": [{"hazard": h, "cases": cases} for h, cases in known.items()],
    }
