"""What nats-py swallows or does not translate is put right at our edge."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from async_motion.errors import LeaseUnavailable
from async_motion.fleet import nats_bucket as module
from async_motion.fleet.leases import KeyTaken
from async_motion.fleet.nats_bucket import NatsBucket


class DeafBucket:
    """A key-value bucket of nats-py whose calls end normally, or with `error`, when they are cancelled."""

    def __init__(self, error: Exception | None) -> None:
        self.asked = asyncio.Event()
        self._error = error

    async def put(self, _key: str, _value: bytes) -> int:
        self.asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if self._error is not None:
            raise self._error
        return 1


@pytest.mark.parametrize("error", [None, nats.errors.TimeoutError(), nats.js.errors.ServerError()])
async def test_a_cancellation_that_nats_py_swallows_still_ends_the_task(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    deaf = DeafBucket(error)
    monkeypatch.setattr(bucket, "_bucket", deaf)
    task = asyncio.create_task(bucket.put("key", b""))
    await deaf.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class ClosedClient:
    """A client of nats-py, and its bucket, whose connection uvloop has closed."""

    is_closed = False
    is_connected = True

    async def close(self) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")

    async def put(self, _key: str, _value: bytes) -> int:
        raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")


async def test_a_connection_that_uvloop_has_closed_is_trouble_and_no_bug(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    monkeypatch.setattr(bucket, "_client", ClosedClient())
    monkeypatch.setattr(bucket, "_bucket", ClosedClient())
    async with bucket:
        with pytest.raises(LeaseUnavailable, match="the handler is closed"):
            await bucket.put("key", b"")


class OlderBucket:
    """An older copy of the leases' bucket: its revisions begin again at 1."""

    def __init__(self) -> None:
        self.revision = 0
        self.asked: list[str] = []

    async def put(self, _key: str, _value: bytes) -> int:
        self.revision += 1
        return self.revision

    async def create(self, key: str, value: bytes) -> int:
        self.asked.append("create")
        return await self.put(key, value)

    async def watchall(self, **_options: object) -> None:
        self.asked.append("watch")
        raise nats.errors.TimeoutError


async def test_a_replaced_bucket_is_neither_watched_nor_gets_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    older = OlderBucket()

    async def opened() -> OlderBucket:
        return older

    monkeypatch.setattr(bucket, "_open", opened)
    monkeypatch.setattr(bucket, "_newest", 2)
    for _ in range(2):
        with pytest.raises(LeaseUnavailable, match="was replaced: its revisions are lower"):
            await bucket.put("worker.w1", b"")
        with pytest.raises(LeaseUnavailable, match="was replaced: its revisions are lower"):
            await anext(bucket.watch())
        with pytest.raises(LeaseUnavailable, match="was replaced: its revisions are lower"):
            await bucket.create("camera.porch", b"")
    assert older.asked == []
    assert await bucket.put("worker.w1", b"") == 3, "the report's write finds out that it is right again"
    assert await bucket.create("camera.porch", b"") == 4
    with pytest.raises(LeaseUnavailable, match="do not answer"):
        await anext(bucket.watch())
    assert older.asked == ["create", "watch"]


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (
            nats.errors.MaxPayloadError(),
            "max_payload of the NATS servers is too small; expected 16 KiB or more",
        ),
        (TypeError("write() before start_tls()"), "do not answer: write"),
        (AssertionError("no transport"), "do not answer: no transport"),
    ],
)
async def test_what_nats_py_raises_for_a_request_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, words: str
) -> None:
    class Broken:
        async def put(self, _key: str, _value: bytes) -> int:
            raise raised

    async def opened() -> Broken:
        return Broken()

    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    monkeypatch.setattr(bucket, "_open", opened)
    with pytest.raises(LeaseUnavailable, match=words):
        await bucket.put("worker.w1", b"")


@pytest.mark.parametrize(
    "answer",
    [
        1,
        nats.js.errors.KeyWrongLastSequenceError(),
        nats.js.errors.KeyNotFoundError(),
        nats.js.errors.APIError(code=503, err_code=10008, description="busy"),
    ],
)
async def test_after_a_request_without_an_answer_every_second_waits_for_less(
    monkeypatch: pytest.MonkeyPatch, answer: int | Exception
) -> None:
    """A refusal is an answer."""
    answers: list[int | Exception | None] = [None, None, None, answer, None]

    class Electing:
        async def put(self, _key: str, _value: bytes) -> int:
            answer = answers.pop(0)
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            assert answer is not None
            return answer

    electing = Electing()

    async def opened() -> Electing:
        return electing

    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=2.0, worker="w1")
    monkeypatch.setattr(bucket, "_open", opened)
    monkeypatch.setattr(bucket, "_timeout_s", 0.1)
    monkeypatch.setattr(bucket, "_patience_s", 0.1)
    limits: list[float] = []
    for _ in range(5):
        limits.append(bucket._patience_s)  # noqa: SLF001 - times are no subject of a test on a busy machine
        with suppress(LeaseUnavailable, KeyTaken, module._Missing):  # noqa: SLF001
            await bucket.put("worker.w1", b"")
    assert limits == pytest.approx([0.1, 0.05, 0.1, 0.05, 0.1])


async def test_a_connection_is_not_replaced_for_the_end_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket: Any = NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=600.0, worker="w1")
    client = ClosedClient()
    monkeypatch.setattr(bucket, "_client", client)
    monkeypatch.setattr(bucket, "_ttl_s", -1.0)
    await bucket._on_disconnect()  # noqa: SLF001 - nats-py calls it late
    assert not bucket._is_over()  # noqa: SLF001
    monkeypatch.setattr(client, "is_connected", False)
    assert not bucket._is_over(), "the loss begins now"  # noqa: SLF001
    await bucket._on_disconnect()  # noqa: SLF001
    assert bucket._is_over()  # noqa: SLF001


async def test_a_connection_that_is_cancelled_while_it_opens_is_closed() -> None:
    opened, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.set()
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, NatsBucket([url], "fleet", ttl_s=9.0, worker="w1") as bucket:
        asking = asyncio.create_task(bucket.put("hello", b"x"))
        async with asyncio.timeout(30):
            await opened.wait()
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(30):
            await closed.wait()


@pytest.mark.parametrize(
    "error", [TypeError("NoneType"), AssertionError("no transport"), RuntimeError("closed")]
)
async def test_what_asyncio_and_nats_py_raise_while_connecting_is_trouble_and_no_bug(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def connect(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(Client, "connect", connect)
    async with NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=9.0, worker="w1") as bucket:
        with pytest.raises(LeaseUnavailable, match=f"no NATS server answers: {error}"):
            await bucket.put("hello", b"x")


async def test_connecting_ends_although_nats_py_swallows_the_first_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(*_args: object, **_options: object) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.sleep(3600)

    monkeypatch.setattr(Client, "connect", connect)
    monkeypatch.setattr(module, "CONNECT_S", 0.05)
    async with (
        asyncio.timeout(30),
        NatsBucket(["nats://127.0.0.1:1"], "fleet", ttl_s=9.0, worker="w1") as bucket,
    ):
        with pytest.raises(LeaseUnavailable, match="no NATS server answers: TimeoutError"):
            await bucket.put("hello", b"x")
