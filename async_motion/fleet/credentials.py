"""NATS credentials files (`.creds`): a user's JWT, and the seed of the Ed25519 key that signs for the user.

A seed is in Base32: two bytes with the kinds `seed` and `user`, 32 bytes, and a CRC-16.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

MAX_FILE_BYTES: Final = 64 << 10

_JWT: Final = re.compile(r"-BEGIN NATS USER JWT-+[ \t]*\r?\n([\w-]+\.[\w-]+\.[\w=-]+)\s", re.ASCII)
_SEED: Final = re.compile(r"-BEGIN USER NKEY SEED-+[ \t]*\r?\n(\w+)\s", re.ASCII)

_SEED_BYTES: Final = 36
_USER_SEED: Final = bytes([18 << 3 | 20 << 3 >> 5, (20 << 3 & 31) << 3])
"""The kinds at the beginning of a user's seed, `SU` in Base32."""


class InvalidCredentials(Exception):
    """A credentials file cannot be read, or is damaged. The message shows nothing of its content."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's credentials, as nats-py asks for them."""

    jwt: str = field(repr=False)
    key: SigningKey = field(repr=False)

    def token(self) -> bytes:
        """Return the user's JWT."""
        return self.jwt.encode()

    def sign(self, nonce: str) -> bytes:
        """Return the signature of a server's nonce in Base64."""
        return base64.b64encode(self.key.sign(nonce.encode()).signature)


def read_credentials(path: Path) -> Credentials:
    """Read a credentials file. Raises InvalidCredentials."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InvalidCredentials(f"{path}: {(exc.strerror or 'unreadable').lower()}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise InvalidCredentials(f"{path}: more than {MAX_FILE_BYTES >> 10} KiB, not a credentials file")
    text = data.decode("ascii", "replace") + "\n"
    jwt, seed = _JWT.search(text), _SEED.search(text)
    if jwt is None:
        raise InvalidCredentials(f"{path}: no BEGIN NATS USER JWT with a token in the next line")
    if seed is None:
        raise InvalidCredentials(f"{path}: no BEGIN USER NKEY SEED with a seed in the next line")
    key = _key(seed[1])
    if key is None:
        raise InvalidCredentials(f"{path}: the seed is damaged, or is not a user's")
    return Credentials(jwt[1], key)


def _key(seed: str) -> SigningKey | None:
    """Return the key of a user's seed; None if that is not valid."""
    try:
        data = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        return None
    body, crc = data[:-2], int.from_bytes(data[-2:], "little")
    if len(data) != _SEED_BYTES or body[:2] != _USER_SEED or binascii.crc_hqx(body, 0) != crc:
        return None
    return SigningKey(body[2:])
