"""The settings as forms: every key with its kind, range, choices, default and help.

Kinds and order come from the tree, ranges from each validator's error message, help and defaults from the
shipped `default.yaml` and its comments: nothing is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from async_motion.settings.strict_yaml import read_yaml
from async_motion.settings.tree import CameraSettings, Section, Settings

Kind = Literal["flag", "choice", "secret", "text", "shape"]

CAMERA: Final = ("cameras", "*")
"""The place of any camera."""

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[a-z_]+):(?: (?P<value>[^#]*?))?\s*(?:# (?P<help>.*))?$")
_MORE = re.compile(r"^\s*# (?P<help>.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One key. `place` has `*` for a camera's name. `default` is text as in the file, blank for none.

    Kind `shape`: polygons and zones, which are drawn, not typed. `hint`: the expected values, such as
    `a duration from 1s to 2min`.
    """

    place: tuple[str, ...]
    kind: Kind
    choices: tuple[str, ...] = ()
    default: str = ""
    hint: str = ""
    help: str = ""
    required: bool = False


@cache
def fields() -> tuple[Field, ...]:
    """Return every key of the settings in the order of the tree; a camera's keys once, below `*`."""
    return tuple(_fields(Settings, ()))


def _fields(section: type[Section], place: tuple[str, ...]) -> Iterator[Field]:
    documented = _documented()
    for key, info in section.model_fields.items():
        here = (*place, key)
        if here == ("cameras",):
            yield from _fields(CameraSettings, CAMERA)
            continue
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _fields(annotation, here)
            continue
        default, help_ = documented.get(here, ("", ""))
        if info.default is None:
            default = ""  # the value in the shipped file is an example
        kind, choices = _kind(here, info)
        yield Field(
            place=here,
            kind=kind,
            choices=choices,
            default="" if kind == "secret" else default,
            hint=_hint(info) if kind == "text" else "",
            help=help_,
            required=info.is_required(),
        )


def _kind(place: tuple[str, ...], info: FieldInfo) -> tuple[Kind, tuple[str, ...]]:
    """Return the kind of a key, and its choices."""
    if place[-1] in ("masks", "zones"):
        return "shape", ()
    parts = list(_parts(info.annotation))
    if SecretStr in parts:
        return "secret", ()
    if parts == [bool]:
        return "flag", ()
    choices = [str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if bool in parts and choices:
        choices += ["true", "false"]
    return ("choice", tuple(choices)) if choices else ("text", ())


def _parts(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    elif annotation is not type(None):
        yield annotation


def _hint(info: FieldInfo) -> str:
    """Return what the key's validator expects, such as `a duration from 1s to 2min`; blank if any text."""
    adapter: TypeAdapter[Any] = TypeAdapter(_annotated(info))
    try:
        adapter.validate_python(_NOTHING)
    except ValidationError as exc:
        words = str(exc.errors(include_url=False, include_input=False)[0].get("ctx", {}).get("error", ""))
        _, found, expected = words.partition(", expected ")
        return expected if found and not expected.startswith("text") else ""
    return ""


def _annotated(info: FieldInfo) -> Any:
    from typing import Annotated  # noqa: PLC0415  # as an operator: its arguments are known at run time alone

    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


_NOTHING: Final = object()
"""A value that every validator refuses, to obtain its error message."""


@cache
def _documented() -> Mapping[tuple[str, ...], tuple[str, str]]:
    """Return (default, help) of each key, read from the shipped file."""
    from async_motion.settings import shipped  # noqa: PLC0415  # it imports the tree as we do

    found: dict[tuple[str, ...], tuple[str, str]] = {}
    above: list[tuple[int, str]] = []
    last: tuple[str, ...] | None = None
    in_cameras = False
    for raw in shipped().read_text(encoding="utf-8").splitlines():
        in_cameras |= raw == "cameras:"
        # The example camera is commented out.
        line = raw.removeprefix("# ") if in_cameras else raw
        line = line.removeprefix("#") if in_cameras and line.startswith("#   ") else line
        match = _LINE.match(line)
        if match is None or (in_cameras and match["key"] in ("porch", "drive") and match["value"]):
            more = _MORE.match(line)
            if more is not None and last is not None and last in found:
                default, help_ = found[last]
                found[last] = (default, f"{help_} {more['help']}".strip())
            elif not line.strip():
                last = None
            continue
        indent = len(match["indent"])
        above = [(depth, key) for depth, key in above if depth < indent]
        above.append((indent, match["key"]))
        last = _place([key for _, key in above])
        value = (match["value"] or "").strip()
        found[last] = (value.strip("\"'"), match["help"] or "")
    return found


def _place(keys: list[str]) -> tuple[str, ...]:
    """Return the place of a key of the shipped file, with the example camera `porch` as `*`."""
    return tuple("*" if at == 1 and keys[0] == "cameras" else key for at, key in enumerate(keys))


def as_written(value: Any) -> str:
    """Return a value of plain data as text, as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True, width=4096).strip()
    return str(value)


def as_yaml(place: tuple[str, ...], value: Any) -> Any:
    """Return the plain data that a form's text for a key means; a blank means None.

    Forms send numbers, flags and lists as text, too.
    """
    if value is None or value == "":
        return None
    starred = (*CAMERA, *place[2:]) if place[:1] == CAMERA[:1] else place
    field = next((field for field in fields() if field.place == starred), None)
    if field is None or not isinstance(value, str) or field.kind in ("secret", "shape"):
        return value
    if field.kind == "text" and not field.hint:
        return value  # any text
    try:
        plain = read_yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        return value
    # Durations, shares and choices stay text; numbers, flags, lists and sections do not.
    return plain if isinstance(plain, int | float | list | dict) else value
