"""Validators: one function for each kind of value.

Each returns the value in base units (seconds, bytes, shares) or raises ValueError with a message for people:
what is wrong, then what was expected. A value from the environment arrives as `EnvText`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from pydantic import PlainValidator, SecretStr, ValidationInfo

from async_motion.core import names
from async_motion.core.options import MqttProtocol
from async_motion.settings.references import resolved
from async_motion.settings.strict_yaml import AmbiguousNumber, read_yaml

RESERVED_CAMERAS = frozenset({"status", "state"})
"""Topic levels of the instance that stand where a camera's name would."""


class EnvText(str):
    """A value from the environment or a secret file: text, to be parsed as the type of its key."""

    __slots__ = ()


def shown(value: object) -> str:
    """Return a value as an error message may show it, at most 60 characters; never for secret keys."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "blank"
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def check_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not text, expected text: put it in quotes")
    text = str(value)
    kinds = {unicodedata.category(char) for char in text}
    if "Cs" in kinds:
        raise ValueError("holds half of a surrogate pair (bytes that are not UTF-8?), expected text")
    if kinds & {"Cc", "Zl", "Zp"}:
        raise ValueError("holds a control character (a line break or tab?), expected one line of text")
    return text


def check_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, EnvText) and value.lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        return value.lower() in ("true", "yes", "on", "1")
    raise ValueError(f"{shown(value)} is neither, expected true or false")


def one_of(literal: Any) -> PlainValidator:
    choices = get_args(literal)

    def check(value: object) -> str:
        if isinstance(value, str) and str(value) in choices:
            return str(value)
        raise ValueError(f"{shown(value)} is not known, expected one of {', '.join(choices)}")

    return PlainValidator(check)


def structure(value: object) -> object:
    """Parse a value from the environment as YAML; return any other value unchanged. Raises ValueError."""
    if not isinstance(value, EnvText):
        return value
    try:
        return read_yaml(value)
    except AmbiguousNumber:
        raise
    except (yaml.YAMLError, ValueError, RecursionError):
        # The text may hold a camera's password: do not repeat the parser's message, which quotes it.
        raise ValueError("cannot be read, expected YAML or JSON") from None


def check_name(value: str) -> str:
    if not names.is_name(value):
        raise ValueError("not a name, expected 1 to 64 of a-z, 0-9, _ and -")
    return value


def check_camera_name(value: str) -> str:
    if value in RESERVED_CAMERAS:
        raise ValueError(
            f"a reserved word in the topics, expected a name other than "
            f"{' and '.join(sorted(RESERVED_CAMERAS))}"
        )
    try:
        return check_name(value)
    except ValueError as exc:
        raise ValueError(f"{exc} (`name:` within it may be any text)") from None


def check_former_name(value: object) -> str:
    return check_name(check_text(value))


def check_instance(value: object) -> str:
    return check_name(check_text(value))


def check_topic(value: object) -> str:
    text = check_text(value)
    expected = "expected a topic such as async_motion or home/cameras"
    if "+" in text or "#" in text:
        raise ValueError(f"{shown(text)} holds a wildcard (+ or #), {expected}")
    if not text or text.startswith(("/", "$")) or text.endswith("/") or "//" in text:
        raise ValueError(f"{shown(text)} has an empty level or begins with $, {expected}")
    if len(text.encode()) > 256:
        raise ValueError(f"longer than 256 bytes, {expected}")
    return text


def check_protocol(value: object) -> MqttProtocol:
    for protocol in get_args(MqttProtocol):
        if str(value) == protocol and not isinstance(value, bool):
            return cast(MqttProtocol, protocol)
    raise ValueError(f"{shown(value)} is not known, expected {' or '.join(get_args(MqttProtocol))}")


def check_file(value: object) -> Path:
    text = check_text(value)
    if not text:
        raise ValueError("empty, expected a path")
    return at_home(text)


def at_home(text: str) -> Path:
    """Return a path with its `~` resolved. Raises ValueError if the home directory is unknown."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(text)} begins at a home that is not known, expected a full path") from None


def check_spool_path(value: object) -> str:
    return ":memory:" if value == ":memory:" else str(check_file(value))


def check_credential(value: object, info: ValidationInfo) -> object:
    """Check a credential, or fetch it. A blank becomes None, which is not the default. Raises ValueError."""
    if isinstance(value, SecretStr):
        return value
    value = resolved(value, info)
    return (check_text(value) or None) if value is not None else None
