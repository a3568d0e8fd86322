"""Find the secrets in the settings: the texts that no log, page or message may show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, SecretStr

ADDRESSES = frozenset({"source", "record_source"})
"""Fields that hold an address. Only its password and its query are secret; `demo:` or a path is not."""

_PARAMETER = re.compile(r"pass|pwd|token|key|secret|auth|sig", re.IGNORECASE)


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
    """Yield an address's password and query, as written and percent-decoded, and its secret parameters."""
    if "://" in source:
        parts = urlsplit(source)
        for text in (parts.password or "", parts.query):
            yield from (text, unquote(text))
        for said in (parts.query, *(part for part in parts.path.split("/") if "=" in part)):
            yield from (value for key, value in parse_qsl(said) if _PARAMETER.search(key))
