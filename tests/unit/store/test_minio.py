"""What the S3 store decides without a server; the contract and fault tests cover the rest."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from async_motion.errors import RecordRejected, SettingsError, StoreUnavailable
from async_motion.store.minio import MinioStore

SECRET = "do-not-show-me"


def make(**changed: Any) -> MinioStore:
    arguments: dict[str, Any] = {
        "endpoint": "127.0.0.1:9",
        "bucket": "motion",
        "access_key": "uploader",
        "secret_key": SECRET,
    }
    return MinioStore(**(arguments | changed))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"endpoint": "http://127.0.0.1:9000"}, "endpoint: expected host"),
        ({"endpoint": "127.0.0.1:9000/path"}, "endpoint"),
        ({"endpoint": "user:pass@127.0.0.1"}, "endpoint"),
        ({"bucket": "No"}, "bucket"),
        ({"bucket": "10.0.0.1"}, "bucket"),
        ({"region": "not a region"}, "region"),
        ({"access_key": None}, "access_key and secret_key"),
        ({"secret_key": ""}, "access_key and secret_key"),
        ({"encryption": "rot13"}, "sse-kms:<key id>"),
        ({"encryption": "sse-kms:"}, "sse-kms:<key id>"),
    ],
)
def test_values_that_cannot_be(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make(**changed)

    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("ca", ["missing", "nonsense"])
async def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, ca: str) -> None:
    (tmp_path / "nonsense").write_text("not a certificate")

    with pytest.raises(SettingsError, match=f"ca_file: .*{ca}"):
        async with make(secure=True, ca_file=str(tmp_path / ca)):
            pass


@pytest.mark.parametrize(
    ("changed", "start"),
    [
        ({}, "http://127.0.0.1:9/motion/a/b.jpg?"),
        ({"secure": True, "endpoint": "store.example.org"}, "https://store.example.org/motion/a/b.jpg?"),
        (
            {"path_style": False, "endpoint": "store.example.org"},
            "http://motion.store.example.org/a/b.jpg?",
        ),
        (
            {"endpoint": "s3.amazonaws.com", "secure": True, "region": "eu-west-1"},
            "https://motion.s3.eu-west-1.amazonaws.com/a/b.jpg?",
        ),
        (
            {"endpoint": "s3.amazonaws.com", "secure": True, "region": "eu-west-1", "path_style": True},
            "https://s3.eu-west-1.amazonaws.com/motion/a/b.jpg?",
        ),
        ({"link_endpoint": "https://media.example.org"}, "https://media.example.org/motion/a/b.jpg?"),
    ],
)
async def test_where_links_lead(changed: dict[str, Any], start: str) -> None:
    async with make(**changed) as store:
        link = await store.link("a/b.jpg", 60)

    assert link is not None
    assert link.startswith(start)
    assert SECRET not in link


@pytest.mark.parametrize(
    ("asked", "given"), [(60, "60"), (0, "1"), (0.5, "1"), (604_800, "604800"), (1e9, "604800")]
)
async def test_links_live_as_long_as_they_can(asked: float, given: str) -> None:
    async with make() as store:
        link = await store.link("a/b.jpg", asked)

    assert link is not None
    assert f"X-Amz-Expires={given}&" in link


async def test_a_temporary_key_shows_its_token_in_links() -> None:
    async with make(session_token="for-a-while") as store:
        link = await store.link("a/b.jpg", 60)

    assert link is not None
    assert "X-Amz-Security-Token=for-a-while" in link


async def test_it_opens_and_closes_without_a_server() -> None:
    async with make() as store:
        assert store.bucket == "motion"


async def test_no_server_listens() -> None:
    async with make() as store:
        with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:9: cannot connect"):
            await store.probe()


async def test_it_is_used_open_or_not_at_all() -> None:
    with pytest.raises(RuntimeError, match="async context manager"):
        await make().probe()


@pytest.mark.parametrize("tags", [{"a" * 200: "b"}, {"a": "b&c"}, {str(n): "" for n in range(11)}])
async def test_tags_that_cannot_be_are_the_records_fault(tags: dict[str, str]) -> None:
    async with make(tags=True) as store:
        with pytest.raises(RecordRejected, match=r"a\.jpg"):
            await store.put("a.jpg", b"", content_type="image/jpeg", metadata={}, tags=tags)


@pytest.mark.parametrize("metadata", [{"sha256": hashlib.sha256(b"x").hexdigest()}, {}])
async def test_the_digest_of_a_body_is_signed_whether_it_was_known_or_not(metadata: dict[str, str]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        await reader.readexactly(1)
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        writer.close()

    heads: list[str] = []
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, make(endpoint=f"127.0.0.1:{port}", session_token="For-A-While") as store:
        await store.put("a.jpg", b"x", content_type="image/jpeg", metadata=metadata, tags={})

    (head,) = heads
    assert f"\r\nx-amz-content-sha256: {hashlib.sha256(b'x').hexdigest()}\r\n" in head
    assert "\r\nx-amz-security-token: for-a-while\r\n" in head
    assert "x-amz-content-sha256;x-amz-date;" in head
    assert "content-md5" not in head


async def test_a_put_that_is_cancelled_ends() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    arrived = asyncio.Event()
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, make(endpoint=f"127.0.0.1:{port}") as store:
        putting = asyncio.create_task(
            store.put("a.jpg", b"x", content_type="image/jpeg", metadata={}, tags={}), name="put"
        )
        await asyncio.wait_for(arrived.wait(), 30)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
