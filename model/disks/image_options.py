# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a new image file (``-o``): which there are, and which values are modelled.

An image is made with what each release takes for itself; other values are outside the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.disks.image_session import known_drivers
from model.values.image_layout import CLUSTER, ImageError, parse_size, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from model.release.dialect import Dialect

NAMES_OPTION = (6, 0)
"""The release since which a text about a wrong value names the option."""

_FILE: dict[str, object] = {"nocow": False, "extent_size_hint": None}
_OPTIONS: dict[str, dict[str, object]] = {
    "raw": {"preallocation": "off", **_FILE},
    "qcow2": {
        "cluster_size": CLUSTER,
        "compat": "1.1",
        "compression_type": "zlib",
        "data_file": None,
        "data_file_raw": False,
        "encryption": False,
        "extended_l2": False,
        "lazy_refcounts": False,
        "preallocation": "off",
        "refcount_bits": 16,
        **_FILE,
    },
}
"""What an image has where nobody says otherwise; None for what it has not then."""

_ENUMS = {
    "compat": ("version", {"0.10": "0.10", "v2": "0.10", "1.1": "1.1", "v3": "1.1"}),
    "compression_type": ("compression-type", {"zlib": "zlib", "zstd": "zstd"}),
    "preallocation": (
        "preallocation",
        {mode: mode for mode in ("off", "metadata", "falloc", "full")},
    ),
}
"""What options of a few values are called in texts, and what each value means."""
_SWITCHES: dict[object, bool] = {True: True, False: False, "on": True, "off": False}
_CLUSTERS = (512, 2 << 20)
_MOST_REFCOUNT_BITS = 64


class LateError(ImageError):
    """A value that is refused when the file has been made anew already, or is gone."""


def check_names(name: str, format_: str, options: Iterable[str]) -> None:
    """Raise :class:`ImageError` for an option that the format does not have."""
    for key in options:
        if key not in _OPTIONS[format_]:
            raise ImageError(f"{name}: Invalid parameter '{key}'")


def check_values(
    dialect: Dialect, name: str, format_: str, options: Mapping[str, object]
) -> tuple[bool, str]:
    """Look at the values of an image's options.

    Returns whether its file is to be written in full, and what of the options is not modelled, ""
    where all is. Raises :class:`ImageError` for what the release refuses.
    """
    known = _OPTIONS[format_]
    full, outside = False, ""
    for key, value in options.items():
        try:
            meant = _meant(dialect, format_, key, value)
        except LateError as error:
            raise LateError(f"{name}: {error}") from None
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from None
        if format_ == "raw" and key == "preallocation" and meant == "full":
            full = True
        elif meant != known[key]:
            outside = outside or f"{key}={shown(value)} of a {format_} image"
    return full, outside


def _meant(dialect: Dialect, format_: str, key: str, value: object) -> object:
    """What the value of an option means. Raises :class:`ImageError`."""
    if isinstance(_OPTIONS[format_][key], bool):
        if not isinstance(value, bool | str) or value not in _SWITCHES:
            raise ImageError(f"Parameter '{key}' expects 'on' or 'off'")
        return _SWITCHES[value]
    if key == "cluster_size":
        return _cluster(parse_size(value))  # type: ignore[arg-type]  # it says what it takes
    if key == "refcount_bits":
        bits = parse_size(value)  # type: ignore[arg-type]
        if not 0 < bits <= _MOST_REFCOUNT_BITS or bits & (bits - 1):
            raise LateError("Refcount width must be a power of two and may not exceed 64 bits")
        return bits
    if key not in _ENUMS:
        return value
    called, values = _ENUMS[key]
    meant = values.get(value) if isinstance(value, str) else None
    if meant is None:
        said = _wrong(dialect, format_, called, value)
        raise ImageError(said) if format_ == "raw" else LateError(said)
    if format_ == "raw" and meant == "metadata":
        raise LateError(f"Unsupported preallocation mode: {meant}")
    return meant


def check_backing_format(dialect: Dialect, name: str, backing_format: str) -> None:
    """Refuse the name of a format that the release does not know.

    Raises :class:`ImageError`.
    """
    if backing_format not in known_drivers(dialect):
        raise LateError(f"{name}: {_wrong(dialect, 'qcow2', 'backing-fmt', backing_format)}")


def _wrong(dialect: Dialect, format_: str, called: str, value: object) -> str:
    """What is said of a value that an option does not have."""
    given = shown(value)
    if isinstance(value, str):
        given = given.strip("'")
    if format_ == "raw":
        return f"invalid parameter value: {given}"
    if dialect.release < NAMES_OPTION:
        return f"Invalid parameter '{given}'"
    return f"Parameter '{called}' does not accept value '{given}'"


def _cluster(size: int) -> int:
    least, most = _CLUSTERS
    if not least <= size <= most or size & (size - 1):
        raise LateError("Cluster size must be a power of two between 512 and 2048k")
    return size
