"""How Home Assistant is made to forget what a device no longer has.

Leaving a component out of a payload does not remove it: it is removed by a payload that holds its platform
alone, sent while Home Assistant has it loaded, and left out after that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_motion.home_assistant.payloads import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """The payloads that remove from Home Assistant what a device no longer has, in the order to publish them.

    `shown` loads it once more, for a Home Assistant that was away; `struck` removes single components; `left`
    stays retained: None is the empty payload, which removes the whole device.
    """

    shown: Payload
    struck: Payload | None
    left: Payload | None


def removal_of(before: Mapping[str, Any], now: Payload | None) -> Removal | None:
    """Compare a device as it was announced with what it is now (None: gone). Returns None if nothing went.

    `before` was read from the broker: what is no payload of ours has nothing to remove.
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
        # A component with its platform alone was being struck when the service stopped: it cannot be shown.
        and len(component) > 1
        and isinstance(component.get("platform"), str)
        and kept.get(key, {}).get("platform") != component["platform"]
    }


def merged(older: Mapping[str, Any], newer: Mapping[str, Any]) -> Payload:
    """Return `newer` plus the components that only `older` has: all that Home Assistant may still know."""
    return {**newer, "components": {**older.get("components", {}), **newer.get("components", {})}}
