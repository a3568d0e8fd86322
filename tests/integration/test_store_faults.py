"""Failures of network, proxy and server, and how the S3 store handles them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from async_motion.errors import AsyncMotionError, RecordRejected, StoreRefused, StoreUnavailable
from async_motion.store.minio import MinioStore
from tests.support.proxy import Proxy
from tests.support.s3 import S3Server

KEY = "edge1/porch/2026/11/22/20261122T073112345Z-7c1e9a/000003.jpg"
JPEG = b"\xff\xd8" + bytes(range(256)) * 400 + b"\xff\xd9"
XML = {"Content-Type": "application/xml"}


def s3_error(code: str, message: str = "because") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


async def put(store: MinioStore, key: str = KEY, data: bytes = JPEG) -> str:
    return await store.put(key, data, content_type="image/jpeg", metadata={"camera": "porch"}, tags={})


@pytest.fixture
def bucket(seaweedfs: S3Server) -> str:
    return seaweedfs.make_bucket()


@pytest.fixture
async def proxy(seaweedfs: S3Server) -> AsyncIterator[Proxy]:
    async with Proxy("127.0.0.1", seaweedfs.port) as opened:
        yield opened


@pytest.fixture
async def store(seaweedfs: S3Server, bucket: str, proxy: Proxy) -> AsyncIterator[MinioStore]:
    arguments = seaweedfs.admin.arguments() | {"endpoint": f"127.0.0.1:{proxy.port}"}
    async with MinioStore(bucket=bucket, put_timeout_s=2.0, connect_timeout_s=1.0, **arguments) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_secret_is_logged(seaweedfs: S3Server, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("DEBUG")
    yield
    assert seaweedfs.admin.secret_key not in caplog.text


async def stored(server: S3Server, bucket: str, key: str = KEY) -> bytes | None:
    """Return the object `key`, read directly from the server; None if it does not exist."""
    async with MinioStore(bucket=bucket, **server.admin.arguments()) as store:
        try:
            return await store.get(key)
        except RecordRejected:
            return None


async def refusal(store: MinioStore) -> AsyncMotionError:
    """Return the error that a put raises; it must not take longer than its time limit."""
    started = time.monotonic()
    with pytest.raises(AsyncMotionError) as caught:
        await put(store)
    assert time.monotonic() - started < 20
    return caught.value


class TestBrokenConnections:
    @pytest.mark.parametrize("after", [0, 100, 5_000, 60_000])
    async def test_cut_while_sending(
        self, store: MinioStore, proxy: Proxy, seaweedfs: S3Server, bucket: str, after: int
    ) -> None:
        proxy.cut(up=after)

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert await stored(seaweedfs, bucket) is None
        proxy.heal()
        await put(store)
        assert await stored(seaweedfs, bucket) == JPEG

    @pytest.mark.parametrize("after", [0, 20])
    async def test_an_answer_that_is_lost_means_unknown_and_a_repeat_is_harmless(
        self, store: MinioStore, proxy: Proxy, seaweedfs: S3Server, bucket: str, after: int
    ) -> None:
        proxy.cut(down=after)

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert await stored(seaweedfs, bucket) == JPEG
        proxy.heal()
        await put(store)
        assert await stored(seaweedfs, bucket) == JPEG

    async def test_idle_connections_that_were_cut_are_not_trouble(
        self, store: MinioStore, proxy: Proxy
    ) -> None:
        await put(store)
        proxy.reset()

        await put(store)

        assert proxy.connections == 2

    async def test_a_get_never_returns_a_part(self, store: MinioStore, proxy: Proxy) -> None:
        await put(store)
        proxy.cut(down=50_000)

        with pytest.raises(StoreUnavailable) as caught:
            await store.get(KEY)

        assert type(caught.value) is StoreUnavailable
        proxy.heal()
        assert await store.get(KEY) == JPEG

    async def test_no_server_listens(self, store: MinioStore, proxy: Proxy) -> None:
        await proxy.close_port()

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert "cannot connect" in str(error)
        await proxy.open_port()
        await put(store)

    async def test_connections_are_not_even_refused(self, seaweedfs: S3Server) -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            port = deaf.getsockname()[1]
            # Once the backlog of the socket is full, Linux drops further connection attempts.
            waiting = [await asyncio.open_connection("127.0.0.1", port)]
            arguments = seaweedfs.admin.arguments() | {"endpoint": f"127.0.0.1:{port}"}
            try:
                async with MinioStore(
                    bucket="motion", connect_timeout_s=0.5, put_timeout_s=30.0, **arguments
                ) as store:
                    error = await refusal(store)
            finally:
                for _, writer in waiting:
                    writer.close()

        assert type(error) is StoreUnavailable
        assert "no connection within 0.5 s" in str(error)


class TestSlowness:
    async def test_a_connection_that_stands_still(self, store: MinioStore, proxy: Proxy) -> None:
        await put(store)
        proxy.hold()

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert "no answer within 2 s" in str(error)
        proxy.release()
        await put(store)

    async def test_a_trickle_is_given_up(self, store: MinioStore, proxy: Proxy) -> None:
        proxy.limit(rate=2_000)

        error = await refusal(store)

        assert "no answer within 2 s" in str(error)

    async def test_a_large_body_has_more_time(
        self, store: MinioStore, proxy: Proxy, seaweedfs: S3Server, bucket: str
    ) -> None:
        large = JPEG * 40
        proxy.limit(
            rate=1_600_000
        )  # 2.6 s for 4 MB: more than the limit for one MiB, far less than that for four

        await put(store, data=large)

        assert await stored(seaweedfs, bucket) == large

    async def test_an_answer_that_never_ends(self, store: MinioStore, proxy: Proxy) -> None:
        proxy.answer(0, raw=b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 10\r\n\r\n12345')

        error = await refusal(store)

        assert type(error) is StoreUnavailable


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (500, "InternalError"),
            (503, "SlowDown"),
            (503, "ServiceUnavailable"),
            (400, "RequestTimeout"),
            (400, "BadDigest"),
            (429, "TooManyRequests"),
            (507, "XMinioStorageFull"),
        ],
    )
    async def test_transient_failures(self, store: MinioStore, proxy: Proxy, status: int, code: str) -> None:
        answer = proxy.answer(status, headers=XML, body=s3_error(code))

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert code in str(error)
        assert answer.given == 1, "the backoff is delivery's: one put is one request"

    async def test_retry_after_of_the_server_is_kept(self, store: MinioStore, proxy: Proxy) -> None:
        proxy.answer(503, headers=XML | {"Retry-After": "7"}, body=s3_error("SlowDown"))

        error = await refusal(store)

        assert isinstance(error, StoreUnavailable)
        assert error.retry_after_s == 7

    async def test_retry_after_of_a_proxy_is_kept_too(self, store: MinioStore, proxy: Proxy) -> None:
        then = datetime.now(UTC) + timedelta(seconds=120)
        headers = {"Content-Type": "text/html", "Retry-After": format_datetime(then, usegmt=True)}
        proxy.answer(503, headers=headers, body=b"<html><body>down for maintenance</body></html>")

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert error.retry_after_s == pytest.approx(120, abs=30)
        assert "maintenance" not in str(error)

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (403, "InvalidAccessKeyId"),
            (403, "SignatureDoesNotMatch"),
            (400, "ExpiredToken"),
            (403, "AllAccessDisabled"),
            (401, None),
        ],
    )
    async def test_refused_at_once(
        self, store: MinioStore, proxy: Proxy, status: int, code: str | None
    ) -> None:
        answer = proxy.answer(status, headers=XML, body=s3_error(code) if code else b"")

        error = await refusal(store)

        assert type(error) is StoreRefused
        assert answer.given == 1

    async def test_a_right_that_is_missing_is_missing_for_the_probe_too(
        self, store: MinioStore, proxy: Proxy
    ) -> None:
        answer = proxy.answer(403, headers=XML, body=s3_error("AccessDenied"))

        error = await refusal(store)

        assert type(error) is StoreRefused
        assert answer.given == 2

    @pytest.mark.parametrize(
        ("status", "code"), [(403, "AccessDenied"), (400, "InvalidArgument"), (409, "SomethingNew")]
    )
    async def test_what_only_one_object_meets_is_its_own_fault(
        self, store: MinioStore, proxy: Proxy, status: int, code: str
    ) -> None:
        answer = proxy.answer(status, path=KEY, headers=XML, body=s3_error(code))

        error = await refusal(store)

        assert type(error) is RecordRejected
        assert code in str(error)
        assert answer.given == 2
        await put(store, "another/key.jpg")

    async def test_a_right_that_came_back_in_the_meantime_sets_nothing_aside(
        self, store: MinioStore, proxy: Proxy, seaweedfs: S3Server, bucket: str
    ) -> None:
        proxy.answer(403, headers=XML, body=s3_error("AccessDenied"), times=1)

        await put(store)

        assert await stored(seaweedfs, bucket) == JPEG

    @pytest.mark.parametrize(
        ("status", "code"), [(400, "EntityTooLarge"), (413, None), (400, "KeyTooLongError")]
    )
    async def test_rejected_at_once(
        self, store: MinioStore, proxy: Proxy, status: int, code: str | None
    ) -> None:
        answer = proxy.answer(status, path=KEY, headers=XML, body=s3_error(code) if code else b"<html>")

        error = await refusal(store)

        assert type(error) is RecordRejected
        assert answer.given == 1

    async def test_a_probe_is_never_a_records_fault(self, store: MinioStore, proxy: Proxy) -> None:
        proxy.answer(400, headers=XML, body=s3_error("EntityTooLarge"))

        with pytest.raises(StoreRefused, match="EntityTooLarge"):
            await store.probe()

    async def test_a_clock_that_is_off_is_measured(self, store: MinioStore, proxy: Proxy) -> None:
        then = datetime.now(UTC) + timedelta(seconds=1200)
        headers = XML | {"Date": format_datetime(then, usegmt=True)}
        proxy.answer(403, headers=headers, body=s3_error("RequestTimeTooSkewed"))

        error = await refusal(store)

        assert isinstance(error, StoreRefused)
        assert "clock" in str(error)
        assert "s behind the store's" in str(error)

    async def test_the_region_is_named(self, store: MinioStore, proxy: Proxy) -> None:
        headers = XML | {"x-amz-bucket-region": "eu-west-1"}
        proxy.answer(301, headers=headers, body=s3_error("PermanentRedirect"))

        error = await refusal(store)

        assert type(error) is StoreRefused
        assert "region eu-west-1" in str(error)

    async def test_a_redirect_is_not_followed(self, store: MinioStore, proxy: Proxy) -> None:
        answer = proxy.answer(307, headers={"Location": f"http://127.0.0.1:{proxy.port}/elsewhere"})

        error = await refusal(store)

        assert isinstance(error, StoreRefused)
        assert "redirect" in str(error)
        assert answer.given == 1


class TestForeignServers:
    async def test_a_page_that_says_yes_to_everything_stores_nothing(
        self, store: MinioStore, proxy: Proxy
    ) -> None:
        proxy.answer(200, headers={"Content-Type": "text/html"}, body=b"<html>Welcome to our hotel</html>")

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert "ETag" in str(error)

    @pytest.mark.parametrize(
        "raw",
        [
            b"220 mail.example.org ESMTP\r\n",
            b"\x00\x01\x02\x03",
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n",
        ],
    )
    async def test_what_is_not_http(self, store: MinioStore, proxy: Proxy, raw: bytes) -> None:
        proxy.answer(0, raw=raw)

        error = await refusal(store)

        assert type(error) is StoreUnavailable

    @pytest.mark.parametrize(
        "body",
        [
            b"<Error><Code>",
            b"\xff\xfe\x00",
            b"",
            b"<Error/>",
            b"<Error><Code></Code></Error>",
            b"x" * 20_000_000,
        ],
    )
    async def test_an_error_that_cannot_be_read(self, store: MinioStore, proxy: Proxy, body: bytes) -> None:
        proxy.answer(502, headers=XML, body=body)

        error = await refusal(store)

        assert type(error) is StoreUnavailable
        assert "HTTP 502" in str(error)
        assert len(str(error)) < 400

    async def test_the_text_of_a_foreign_server_stays_on_one_line(
        self, store: MinioStore, proxy: Proxy
    ) -> None:
        words = "line\n\x1b[31mred " + "long " * 100
        proxy.answer(500, headers=XML, body=s3_error("InternalError", words.replace("\x1b", "")))

        error = await refusal(store)

        assert "\n" not in str(error)
        assert len(str(error)) < 400
