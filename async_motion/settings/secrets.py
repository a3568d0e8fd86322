"""What in the settings is secret: the texts that no log, page or message may show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, SecretStr

ADDRESSES = frozenset({"source", "record_source"})
"""Fields that hold an address: `demo:` and the name of a file may be shown, the login and the query not."""

_PARAMETER = re.compile(r"pass|pwd|token|key|secret|auth|sig", re.IGNORECASE)


def secrets_in(value: object) -> Iterator[str]:
    """Yield every secret in a tree of settings; some may be empty."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name in ADDRESSES and isinstance(inner, SecretStr):
                yield from secrets_in_address(inner.get_secret_value())
            else:
                yield from secrets_in(inner)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_in(item)


def secrets_in_address(source: str) -> Iterator[str]:
    """Yield the password and the query of an address, as written and decoded, and the query's secrets."""
    if "://" in source:
        parts = urlsplit(source)
        for text in (parts.password or "", parts.query):
            yield from (text, unquote(text))
        yield from (value for key, value in parse_qsl(parts.query) if _PARAMETER.search(key))
