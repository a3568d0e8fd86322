"""Remove from Home Assistant the components that a device no longer has.

Leaving a component out of a payload does not remove it. A payload that holds only its platform does, if it is
sent while Home Assistant has the component loaded; after that, the component is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_motion.home_assistant.payloads import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The payloads that remove components or a whole device, in the order to publish them.

    `shown` loads the components once more, for a Home Assistant that was offline. `struck` removes single
    components. `left` stays retained; None is the empty payload, which removes the whole device.
    """

    shown: Payload
    struck: Payload | None
    left: Payload | None


def removal_of(before: Mapping[str, Any], now: Payload | None) -> Removal | None:
    """Return the removal between a device's old payload and the one `now` (None: gone); None if not needed.

    `before` was read from the broker: a malformed payload has nothing to remove.
    """
    gone = _removed_components(before, now)
    if now is None:
        return Removal(shown=dict(before), struck=None, left=None) if gone else None
    if not gone:
        return None
    struck = {key: {"platform": component["platform"]} for key, component in gone.items()}
    return Removal(
        shown={**now, "components": {**now["components"], **gone}},
        struck={**now, "components": {**now["components"], **struck}},
        left=now,
    )


def _removed_components(before: Mapping[str, Any], now: Payload | None) -> dict[str, Payload]:
    components = before.get("components")
    if not isinstance(components, dict):
        return {}
    kept = now["components"] if now is not None else {}
    return {
        key: component
        for key, component in components.items()
        if isinstance(component, dict)
        # A component with only a platform was being removed when the service stopped: it cannot be shown.
        and len(component) > 1
        and isinstance(component.get("platform"), str)
        and kept.get(key, {}).get("platform") != component["platform"]
    }


def merged(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Payload:
    """Return `newer` plus the components that only `older` has: all that Home Assistant may have loaded."""
    return {**newer, "components": {**older.get("components", {}), **newer.get("components", {})}}
