"""The place of a value in the tree, and the wording of problems there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from async_motion.settings.tree import Section, Settings

Place = tuple[str | int, ...]
"""The keys from the top to a value: ``("cameras", "porch", "detect", "masks", 0)``."""


def dotted(place: Place) -> str:
    """Return `place` in dotted form: ``cameras.porch.detect.masks[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "settings"


def section_at(place: Place) -> tuple[type[Section], bool] | None:
    """Return the model of the section at `place`, and whether its keys are free names (cameras, zones).

    None if there is no section.
    """
    section: type[Section] = Settings
    named = False
    for part in place:
        if named:
            named = False
            continue
        field = section.model_fields.get(str(part))
        if field is None:
            return None
        inner = [field.annotation, *get_args(field.annotation)]
        models = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)]
        if not models:
            return None
        named = models[0] is not field.annotation
        section = models[0]
    return section, named


def exists(place: Place) -> bool:
    """Return whether `place` names a key of the settings."""
    found = section_at(place[:-1])
    return found is not None and (found[1] or str(place[-1]) in found[0].model_fields)


def explain(place: Place, kind: str, ctx: Mapping[str, Any], message: str) -> tuple[Place, str]:
    """Return the place and the message for one of pydantic's errors."""
    # That a key is wrong is marked so; an unknown key is the user's own, and may be called that.
    if place and place[-1] == "[key]" and kind != "extra_forbidden":
        place = place[:-1]
    if "error" in ctx:
        return place, str(ctx["error"])
    if kind == "missing":
        return place[:-1], f"`{place[-1]}` is missing, expected `{place[-1]}: …`"
    if kind == "extra_forbidden":
        found = section_at(place[:-1])
        known = list(found[0].model_fields) if found else []
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        if near:
            return place, f"unknown key, expected {near[0]}?"
        return place, f"unknown key, expected one of {', '.join(known)}"
    if kind in ("dict_type", "mapping_type", "model_type"):
        return place, "not a section, expected a section with keys of its own"
    return place, message
