# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a new image file (``-o``): which there are, and which values are modelled.

An image is made with what each release takes for itself; other values are outside the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.images import CLUSTER, ImageError, parse_size, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.dialect import Dialect

ONE_ENUM_TEXT = (6, 0)
"""The release since which the value of a preallocation is refused with the name of the option."""

_FILE = {"nocow": False, "extent_size_hint": None}
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
_PREALLOCATIONS = {"raw": ("off", "falloc", "full"), "qcow2": ("off", "metadata", "falloc", "full")}
_CLUSTERS = (512, 2 << 20)


def check_options(
    dialect: Dialect, name: str, format_: str, options: Mapping[str, object]
) -> tuple[bool, str]:
    """Look at the options of an image ``name``.

    Returns whether its file is to be written in full, and what of the options is not modelled, ""
    where all is. Raises :class:`model.images.ImageError` for what the release refuses.
    """
    known = _OPTIONS[format_]
    for key, value in options.items():
        if key not in known:
            raise ImageError(f"{name}: Invalid parameter '{key}'")
        if key == "preallocation" and value not in _PREALLOCATIONS[format_]:
            known_text = f"Parameter 'preallocation' does not accept value {shown(value)}"
            newer = dialect.release >= ONE_ENUM_TEXT
            raise ImageError(f"{name}: {known_text if newer else f'Invalid parameter {value!r}'}")
        if key == "cluster_size":
            _check_cluster(name, value)
    full = format_ == "raw" and options.get("preallocation") == "full"
    for key, value in options.items():
        given = parse_size(value) if key == "cluster_size" else value  # type: ignore[arg-type]
        if given != known[key] and not (full and key == "preallocation"):
            return full, f"{key}={value!r} of a {format_} image"
    return full, ""


def _check_cluster(name: str, value: object) -> None:
    size = parse_size(value)  # type: ignore[arg-type]  # which says what it takes
    least, most = _CLUSTERS
    if not least <= size <= most or size & (size - 1):
        raise ImageError(f"{name}: Cluster size must be a power of two between 512 and 2048k")
