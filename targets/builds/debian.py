# SPDX-License-Identifier: GPL-2.0-or-later
"""Other releases of QEMU, fetched from Debian's archive and unpacked into the user's cache.

apt does the work, with the mirror and the proxies that it is set up with, in directories of its
own: it checks the archive's signatures as ever, needs no root, and knows nothing of the packages
of this machine. What is unpacked is never installed: a binary starts through the loader that came
with it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from targets.builds.binaries import ALL, DAEMON, Build, find_daemon, find_driven
from targets.errors import TargetError
from targets.walls.scratch import home
from targets.walls.unwalled import run_unwalled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from targets.walls.standing import Walls

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive (package debian-archive-keyring)."""

_PACKAGES = ("qemu-utils", "qemu-block-extra")
_MARK = ".unpacked"
_SCRATCH = ".unpacking-"
_RELEASE = re.compile(r"\d+\.\d+")
_USR_MERGED = ("bin", "lib", "lib64", "sbin")
_FETCH_WITHIN = 900.0
_UNPACK_WITHIN = 300.0


@attrs.frozen
class Source:
    """Where a release is: Debian's suites, the last one preferred, and how its loader is called."""

    release: str
    suites: tuple[str, ...]
    loader: str
    libraries: tuple[str, ...]


SOURCES: dict[str, Source] = {
    source.release: source
    for source in (
        Source(
            "5.2",
            ("bullseye",),
            "lib/x86_64-linux-gnu/ld-2.31.so",
            ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"),
        ),
        Source(
            "10.0",
            ("trixie",),
            "usr/lib64/ld-linux-x86-64.so.2",
            ("usr/lib/x86_64-linux-gnu",),
        ),
        Source(
            "11.1",
            ("trixie", "trixie-backports"),
            "usr/lib64/ld-linux-x86-64.so.2",
            ("usr/lib/x86_64-linux-gnu",),
        ),
    )
}
"""The releases that can be fetched. 7.2 is Debian 12's own: ``apt-get install``."""


def cache() -> Path:
    """The directory that releases are unpacked into, one folder each."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "reopencheck" / "qemu"


def command_line(release: str, directory: Path | None = None) -> str:
    """What starts the storage daemon of an unpacked release, as one line for a shell."""
    return _start(SOURCES[release], (directory or cache()) / release)


def _start(source: Source, root: Path) -> str:
    libraries = ":".join(str(root / each) for each in source.libraries)
    return f"{root / source.loader} --library-path {libraries} {root / 'usr/bin' / DAEMON}"


def _find(source: Source, root: Path, walls: Walls = ALL) -> Build:
    """The storage daemon unpacked there. Raises TargetError where it is none of the release."""
    build = find_daemon(_start(source, root), walls)
    if build.release != source.release:
        raise TargetError(f"{root} has QEMU {build.version} and not {source.release}")
    return build


def find_installed(release: str, directory: Path | None = None, walls: Walls = ALL) -> Build | None:
    """The storage daemon of a release, or None where it is not (wholly) unpacked.

    Raises TargetError where it is and does not run.
    """
    root = (directory or cache()) / release
    if release not in SOURCES or not (root / _MARK).exists():
        return None
    return _find(SOURCES[release], root, walls)


def find_build(name: str = DAEMON, walls: Walls = ALL) -> Build:
    """Return the storage daemon of a release ("10.0"), else as :func:`find_driven` does.

    A release is the build in PATH, if it is of that, or the one that was fetched. Raises
    TargetError.
    """
    if _RELEASE.fullmatch(name) is None or Path(name).exists():
        return find_driven(name, walls)
    with suppress(TargetError):
        own = find_daemon(walls=walls)
        if own.release == name:
            return own
    build = find_installed(name, walls=walls)
    if build is None:
        hint = f"reopencheck qemu install {name}" if name in SOURCES else "give its path instead"
        raise TargetError(f"there is no QEMU {name} here: {hint}")
    return build


def install(release: str, directory: Path | None = None) -> tuple[Build, bool]:
    """Fetch and unpack a release unless it is there; returns it, and whether it is new.

    What an interrupted run left is replaced: a release is in its place whole or not at all. Raises
    TargetError, one line, when the release is unknown or cannot be fetched.
    """
    source = SOURCES.get(release)
    if source is None:
        known = ", ".join(SOURCES)
        raise TargetError(f"no build of QEMU {release} is known; there are: {known}")
    directory = directory or cache()
    try:
        known_build = find_installed(release, directory)
    except TargetError:
        known_build = None
    if known_build is not None:
        return known_build, False
    _check_host()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory), _scratch(directory, release) as scratch:
            root = scratch / "root"
            _unpack(_fetch(source, scratch / "apt"), root)
            _find(source, root)
            (root / _MARK).touch()
            final = directory / release
            with suppress(FileNotFoundError):
                # Not deleted where it is: half of it could pass for a build.
                final.rename(scratch / "old")
            root.rename(final)
    except OSError as error:
        raise TargetError(
            f"cannot unpack QEMU {release} into {directory}: {error.strerror or error}"
        ) from None
    return _find(source, directory / release), True


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Let nobody else unpack there in the meantime. The lock goes with the process."""
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise TargetError(
            f"another run unpacks into {directory} just now: try again when it has finished"
        ) from None
    finally:
        os.close(held)


@contextmanager
def _scratch(directory: Path, release: str) -> Iterator[Path]:
    """A directory to unpack in, in place of those that killed runs left behind."""
    for left in directory.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_SCRATCH}{release}-", dir=directory, ignore_cleanup_errors=True
    ) as scratch:
        yield Path(scratch)


def _check_host() -> None:
    """Whether there is what it takes; elsewhere than on Debian it is told what to do instead."""
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise TargetError(
                f"there is no {program} here: builds come from Debian's archive; build "
                f"{DAEMON} yourself and give its path to --qemu instead"
            )
    machine = os.uname().machine
    if machine != "x86_64":
        raise TargetError(f"the builds are for x86_64, and this machine is {machine}")
    if not KEYRING.exists():
        raise TargetError(
            f"the keys of Debian's archive are missing ({KEYRING}): install the package "
            f"debian-archive-keyring"
        )


def _mirror() -> str:
    """The mirror that apt is set up with; Debian's own where that cannot be told."""
    targets = _run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
        "ask apt for its mirror",
        60.0,
    )
    sites = Counter(
        line.strip() for line in targets.splitlines() if "debian" in line and "security" not in line
    )
    return sites.most_common(1)[0][0] if sites else "http://deb.debian.org/debian"


def _fetch(source: Source, root: Path) -> list[Path]:
    """Let apt, in directories of its own, download what a release needs; returns the packages."""
    for each in (
        "etc/apt/preferences.d",
        "var/lib/apt/lists/partial",
        "var/cache/apt/archives/partial",
    ):
        (root / each).mkdir(parents=True)
    (root / "status").touch()
    mirror = _mirror()
    sources = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in source.suites]
    (root / "etc/apt/sources.list").write_text("".join(sources))
    options = {
        "APT::Architecture": "amd64",
        "APT::Default-Release": source.suites[-1],
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Binary::apt-get::APT::Keep-Downloaded-Packages": "true",
        "Dir::Cache": f"{root}/var/cache/apt",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": f"{root}/etc/apt/preferences.d",
        "Dir::Etc::SourceList": f"{root}/etc/apt/sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": f"{root}/var/lib/apt",
        "Dir::State::Status": f"{root}/status",
    }
    apt = ["apt-get", "-q", "-y"]
    for key, value in options.items():
        apt += ["-o", f"{key}={value}"]
    what = f"fetch QEMU {source.release} from {mirror}"
    _run([*apt, "update"], what, _FETCH_WITHIN)
    _run([*apt, "--download-only", "install", *_PACKAGES], what, _FETCH_WITHIN)
    packages = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    if not packages:
        raise TargetError(f"cannot {what}: apt downloaded nothing")
    return packages


def _unpack(packages: list[Path], root: Path) -> None:
    root.mkdir()
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(root)], f"unpack {package.name}")
    # What newer suites have in /usr only is also looked for where older ones had it.
    for name in _USR_MERGED:
        if not (root / name).exists() and (root / "usr" / name).is_dir():
            (root / name).symlink_to(f"usr/{name}")


def _run(argv: list[str], what: str, within: float = _UNPACK_WITHIN) -> str:
    """Run a program to its end; a failure is told in one line with its own last words."""
    try:
        done = run_unwalled(argv, within, {**os.environ, "LC_ALL": "C"})
    except TargetError as error:
        raise TargetError(f"cannot {what}: {error}") from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # apt's first error is what went wrong; the last one sums up.
        errors = [line for line in said if line.startswith(("E:", "Err:"))] or said[-1:]
        raise TargetError(f"cannot {what}: {errors[0] if errors else done.returncode}")
    return done.stdout
