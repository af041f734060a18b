# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine has to offer to device_add: device models, their properties, and buses.

No schema of QEMU's says any of this. ``targets.schemas.importing`` asks the emulator itself and
puts the answers into the schema document; a storage daemon has no machine, and so an empty
catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.values.trace import Json


@attrs.frozen(eq=False)
class Catalogue:
    """``types`` are the device models that device_add takes, under their own names.

    ``refused`` are types of devices that it never takes, with what it says that it expects
    instead. ``aliases`` are other names of models. ``buses`` are those that the machine has before
    a client adds any, with their types. ``places`` are the names in its tree of objects, apart
    from those that end with a number in brackets. ``properties`` has for each device that the spec
    models every property that it has in QEMU, with its type.
    """

    types: frozenset[str] = frozenset()
    refused: Mapping[str, str] = attrs.Factory(dict)
    aliases: Mapping[str, str] = attrs.Factory(dict)
    buses: Mapping[str, str] = attrs.Factory(dict)
    places: frozenset[str] = frozenset()
    properties: Mapping[str, Mapping[str, str]] = attrs.Factory(dict)

    @classmethod
    def from_document(cls, document: Mapping[str, Json]) -> Catalogue:
        """A catalogue from the part "devices" of a schema document."""
        refused = {
            name: expected for expected, names in document["refused"].items() for name in names
        }
        return cls(
            types=frozenset(document["types"]),
            refused=refused,
            aliases=document["aliases"],
            buses=document["buses"],
            places=frozenset(document["places"]),
            properties=document["properties"],
        )


NO_MACHINE = Catalogue()
