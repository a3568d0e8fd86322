"""Find the secrets in the settings: the texts that no log, page or message may show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, unquote_plus, urlsplit

from pydantic import BaseModel, SecretStr

ADDRESSES = frozenset({"source", "record_source"})
"""Fields that hold an address. Only its password and its query are secret; `demo:` or a path is not."""

HARMLESS = frozenset(
    {"user", "usr", "username", "loginuse", "u", "account", "channel", "ch", "chn", "camera", "cam", "id"}
    | {"stream", "streamtype", "subtype", "type", "profile", "resolution", "res", "size", "width", "height"}
    | {"fps", "rate", "quality", "compression", "codec", "videocodec", "audio", "unicast", "proto", "cmd"}
)
"""Names of parameters, without digits and punctuation, whose values are no secrets."""

TOKEN = 12
"""Minimum length of a path's segment, with a digit in it, that counts as a token."""

_PARAMETER = re.compile(r"([A-Za-z][\w.-]*?)=(.*?)(?=[_&;,][A-Za-z][\w.-]*?=|$)")
"""name=value; the separators are those of cameras: & ; , and _ (`user=admin_password=abc_channel=1`)."""

_SECRET = re.compile(r"^(?:pass|pwd|pas|token|key|secret|auth|sig)", re.IGNORECASE)
"""A segment of a path that names the next one."""


def secrets_in(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every secret in a tree of settings; some may be empty."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        if place.rpartition(".")[2] in ADDRESSES:
            yield from ((place, part) for part in secrets_in_address(text))
        else:
            yield place, text
    for name, item in _items(value):
        yield from secrets_in(item, f"{place}.{name}".removeprefix("."))


def names_in(value: object) -> Iterator[str]:
    """Yield every text in a tree of settings that is not secret: names, hosts, addresses, topics."""
    if isinstance(value, str):
        yield value
    for name, item in _items(value):
        if isinstance(value, Mapping):
            yield name
        yield from names_in(item)


def _items(value: object) -> Iterator[tuple[str, object]]:
    """Yield the items of a section or a mapping, by name."""
    if isinstance(value, BaseModel):
        yield from ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        yield from value.items()


def secrets_in_address(source: str) -> Iterator[str]:
    """Yield what an address may hold of secrets, as written and percent-decoded: all but the known harmless.

    These are the login, the path and the query as a whole, and what in them is neither a plain word, a short
    number nor the value of a harmless parameter.
    """
    if "://" not in source:
        return
    try:
        parts = urlsplit(source)
        user, password = parts.username or "", parts.password
    except ValueError:
        yield source
        return
    place = source.partition("://")[2]
    _, slash, path = place.rpartition("@")[2].partition("/")
    # Without a password, the user is a token.
    found = [user if password is None else password, parts.query, parts.fragment]
    found += [f"{slash}{path}"] if _is_suspect(path) else []
    found += _values(parts.path, parts.query, parts.fragment)
    for text in found:
        yield from (text, unquote(text), unquote_plus(text))


def _values(*texts: str) -> Iterator[str]:
    """Yield the values of parameters, and the segments of paths, that are not known to be harmless."""
    for text in texts:
        before = ""
        for segment in re.split(r"[/?]", text):
            parameters = list(_PARAMETER.finditer(segment))
            for name, value in (found.groups() for found in parameters):
                if _bare(name) not in HARMLESS:
                    # A separator may also be a part of the value.
                    yield from (value, re.split(r"[&;,]", value)[0])
            if not parameters and (_is_suspect(segment) or _SECRET.search(before)):
                yield segment
            before = segment


def _is_suspect(segment: str) -> bool:
    """Return whether a segment of a path may be a token: long, and no plain words."""
    return len(segment) >= TOKEN and re.search(r"\d", segment) is not None


def _bare(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())
