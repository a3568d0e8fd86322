"""The HTTP session below the S3 store, against servers with malformed answers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from miniopy_async.helpers import BaseURL

from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable
from async_motion.store import s3wire
from async_motion.store.minio import MinioStore
from async_motion.store.s3wire import MAX_INTERIM

OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\n'


@asynccontextmanager
async def answering(answer: bytes | Callable[[bytes], AsyncIterator[bytes]]) -> AsyncIterator[MinioStore]:
    """Yield a store whose server reads each request, sends `answer` and closes.

    A callable gets the request's head and yields the chunks to send.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line[15:])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            await reader.readexactly(length)
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                async for chunk in answer(head):
                    writer.write(chunk)
                    await writer.drain()
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = MinioStore(
        endpoint=f"127.0.0.1:{port}",
        bucket="motion",
        access_key="uploader",
        secret_key="do-not-show-me",
        put_timeout_s=20.0,
    )
    async with server, store:
        yield store


def head(*lines: str, status: str = "403 Forbidden", body: bytes = b"") -> bytes:
    text = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "Connection: close"])
    return text.encode("latin-1") + b"\r\n\r\n" + body


async def put(store: MinioStore, **metadata: str) -> str:
    return await store.put("a.jpg", b"x", content_type="image/jpeg", metadata=metadata, tags={})


SHIFT_JIS = '<?xml version="1.0" encoding="Shift_JIS"?><p>ただいま</p>'.encode("shift_jis")


@pytest.mark.parametrize(
    "answer",
    [
        head("Date: Sun, 22 Nov 2026 07:31:12 +9999", status="503 Busy"),
        head("Date: Fri, 31 Dec 9999 23:59:59 -2359", status="503 Busy"),
        head("Retry-After: Fri, 31 Dec 99999 23:59:59 GMT", status="503 Busy"),
        head("Retry-After: Fri, 31 Dec 9999 23:59:59 -2359", status="503 Busy"),
        head(
            status="503 Busy", body=b'<?xml version="1.0" encoding="x-unknown"?><Error><Code>A</Code></Error>'
        ),
        head(status="503 Busy", body=SHIFT_JIS),
        head("Content-Type: application/xml", status="503 Busy", body=SHIFT_JIS),
        head("x-amz-bucket-region: \xff", status="503 Busy"),
        head('ETag: "\xff"', status="200 OK"),
        head("ETag:", status="200 OK"),
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_no_answer_to_a_put_is_held_against_the_record(answer: bytes) -> None:
    async with answering(answer) as store:
        with pytest.raises(StoreUnavailable) as caught:
            await put(store)
        assert not isinstance(caught.value, StoreRefused)
        str(caught.value).encode()
        assert str(caught.value).isprintable()


async def test_what_miniopy_raises_of_an_answer_is_the_stores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strange(*_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'replace'")

    monkeypatch.setattr("miniopy_async.api.ObjectWriteResult", strange)
    async with answering(OK + b"Content-Length: 0\r\n\r\n") as store:
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await put(store)


async def test_a_bug_before_the_answer_stays_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(OK) as store:
        monkeypatch.setattr(s3wire.Wire, "request", lambda *_, **__: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            await put(store)


async def endless(_head: bytes) -> AsyncIterator[bytes]:
    yield OK + b"Transfer-Encoding: chunked\r\n\r\n"
    block = b"%x\r\n%s\r\n" % (65536, bytes(65536))
    for _ in range(16384):  # 1 GiB, unless the client closes earlier
        yield block


async def test_of_an_endless_success_only_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    real = s3wire.beginning_of

    async def counting(response: Any, max_bytes: int) -> bytes:
        nonlocal read
        data = await real(response, max_bytes)
        read += len(data)
        return data

    monkeypatch.setattr(s3wire, "beginning_of", counting)
    monkeypatch.setattr(s3wire, "MAX_BODY_BYTES", 1024 * 1024)
    async with answering(endless) as store:
        assert await put(store) == "e"
        assert read <= 64 * 1024
        with pytest.raises(StoreUnavailable, match="longer than 1 MiB"):
            await store.get("a.jpg")
    assert read <= 64 * 1024 + 1024 * 1024 + 1


async def test_a_put_carries_its_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket with Object Lock requires one."""
    heads: list[bytes] = []

    async def note(head: bytes) -> AsyncIterator[bytes]:
        heads.append(head.lower())
        yield OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n"

    digest = hashlib.sha256(b"x")
    checksum = base64.b64encode(digest.digest()).lower()
    async with answering(note) as store:
        await put(store)
        await put(store, sha256=digest.hexdigest())
        # HTTPS differs in the connection alone.
        monkeypatch.setattr(BaseURL, "is_https", True)
        await put(store, sha256=digest.hexdigest())
    for each in heads:
        assert b"x-amz-checksum-sha256: " + checksum in each
        assert b"x-amz-content-sha256: " + digest.hexdigest().encode() in each
        assert b"x-amz-checksum-sha256" in each.partition(b"signedheaders=")[2]


async def test_a_request_that_cannot_be_made_is_the_records_fault() -> None:
    async with answering(OK) as store:
        with pytest.raises(RecordRejected) as caught:
            await put(store, kéy="v\u2028")
        assert caught.value.reason
        assert "a.jpg" not in caught.value.reason


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: </x>\r\n\r\n"]
)
async def test_interim_responses_without_an_end_are_bounded(interim: bytes) -> None:
    async def endless(_head: bytes) -> AsyncIterator[bytes]:
        for _ in range(100_000):
            yield interim * 500

    async with answering(endless) as store:
        async with asyncio.timeout(60):
            with pytest.raises(StoreUnavailable, match="interim responses"):
                await put(store)


async def test_interim_responses_up_to_the_bound_are_skipped() -> None:
    few = b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INTERIM - 1) + b"HTTP/1.1 103 Early Hints\r\n\r\n"
    answer = OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    async with answering(few + answer) as store:
        assert await put(store) == "e"
    async with answering(few + b"HTTP/1.1 100 Continue\r\n\r\n" + answer) as store:
        with pytest.raises(StoreUnavailable, match=f"more than {MAX_INTERIM} interim responses"):
            await put(store)
