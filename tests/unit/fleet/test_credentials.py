"""A credentials file is read whole or refused with one line, which shows nothing of its content."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from async_motion.errors import LeaseUnavailable
from async_motion.fleet.credentials import MAX_FILE_BYTES, InvalidCredentials, read_credentials
from async_motion.fleet.nats_bucket import NatsBucket
from tests.support.nats import ACCOUNT, NKey, Operator

TEXT = Operator().credentials()
JWT, SEED = TEXT.splitlines()[1], TEXT.splitlines()[5]


def other_end(text: str) -> str:
    """Return a seed with another checksum."""
    return text[:-3] + ("AAA" if text[-3:] != "AAA" else "BBB")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_credentials_file_gives_a_token_and_signs(tmp_path: Path, newline: str) -> None:
    file = tmp_path / "worker.creds"
    file.write_bytes(TEXT.replace("\n", newline).encode())
    credentials = read_credentials(file)
    assert credentials.token().decode() == JWT
    signature = base64.b64decode(credentials.sign("nonce"))
    credentials.key.verify_key.verify(b"nonce", signature)
    assert JWT not in repr(credentials)


BROKEN: dict[str, Callable[[str], str]] = {
    "no BEGIN NATS USER JWT": lambda text: text[text.index("-----BEGIN USER NKEY") :],
    "no BEGIN USER NKEY SEED": lambda text: text[: text.index("-----BEGIN USER NKEY")],
    "BEGIN NATS USER JWT with a token": lambda text: text.replace(JWT, ""),
    "BEGIN USER NKEY SEED with a seed": lambda text: text.replace(SEED, ""),
    "seed is damaged": lambda text: text.replace(SEED, other_end(SEED)),
    "damaged, or is not": lambda text: text.replace(SEED, SEED[:-1]),
    "is not a user's": lambda text: text.replace(SEED, NKey(ACCOUNT).seed),
    "not a credentials file": lambda text: text + "x" * MAX_FILE_BYTES,
}


@pytest.mark.parametrize("words", BROKEN)
async def test_a_damaged_file_is_refused_with_one_line(tmp_path: Path, words: str) -> None:
    file = tmp_path / "worker.creds"
    file.write_text(BROKEN[words](TEXT))
    bucket = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=1.0, worker="w1", credentials=file)
    with pytest.raises(LeaseUnavailable, match=f"^fleet.credentials: .*{words}") as caught:
        await bucket.get("key")
    message = str(caught.value)
    assert "\n" not in message
    assert not any(secret[:20] in message for secret in (JWT, SEED))


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidCredentials, match="directory"):
        read_credentials(tmp_path / name)
