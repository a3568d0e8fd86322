"""References to secrets in AWS Secrets Manager: ``aws-secret:NAME``, or ``aws-secret:NAME#KEY`` for JSON.

They are resolved where a secret is validated, so one may stand wherever a secret may: in the file, in the
environment or in a secret file. A non-secret key takes none: its value could appear in a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import ValidationInfo

from async_motion.aws_secrets import fetch, fields_of
from async_motion.errors import SecretUnavailable

PREFIX: Final = "aws-secret:"

Fetch = Callable[[str], str]
"""Returns a secret's text by its name. Raises SecretUnavailable."""


class References:
    """The secrets that one load of the settings refers to: each is fetched once."""

    def __init__(self, fetch: Fetch = fetch) -> None:
        self._fetch = fetch
        self._texts: dict[str, str] = {}
        self._failures: dict[str, SecretUnavailable] = {}

    @property
    def names(self) -> frozenset[str]:
        """The names of the secrets that were fetched."""
        return frozenset(self._texts)

    def resolve(self, reference: str) -> str:
        """Return the text that `reference` stands for. Raises ValueError."""
        name, separator, key = reference.removeprefix(PREFIX).partition("#")
        if not name or (separator and not key):
            raise ValueError("no reference to a secret, expected aws-secret:NAME or aws-secret:NAME#KEY")
        try:
            text = self._text(name)
            if not key:
                return text.removesuffix("\n")
            fields = fields_of(name, text)
        except SecretUnavailable as exc:
            raise ValueError(f"AWS Secrets Manager: {exc}") from exc
        if key not in fields:
            raise ValueError(f"AWS Secrets Manager: {name}: has no text at #{key}")
        return fields[key]

    def _text(self, name: str) -> str:
        if name in self._failures:
            raise self._failures[name]
        if name not in self._texts:
            try:
                self._texts[name] = self._fetch(name)
            except SecretUnavailable as exc:
                self._failures[name] = exc
                raise
        return self._texts[name]


class Unresolved(References):
    """References that nothing is fetched for: each stands for a text of its own, which no secret holds."""

    def __init__(self) -> None:
        super().__init__()
        self._named: set[str] = set()

    @property
    def names(self) -> frozenset[str]:
        """The names of the secrets that would be fetched."""
        return frozenset(self._named)

    def resolve(self, reference: str) -> str:
        """Return a text that is valid as any secret, also as a camera's source."""
        self._named.add(reference.removeprefix(PREFIX).partition("#")[0])
        return f"/{reference}"


def resolved(value: object, info: ValidationInfo) -> object:
    """Return the text that `value` stands for, if it is a reference, else `value`. Raises ValueError."""
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return value
    references = info.context if isinstance(info.context, References) else References()
    return references.resolve(value)
