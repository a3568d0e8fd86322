"""The contract of every store: the same cases on the directory and on two real S3 servers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from miniopy_async.commonconfig import GOVERNANCE
from miniopy_async.objectlockconfig import DAYS, ObjectLockConfig

from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable
from async_motion.store.directory import DirectoryStore
from async_motion.store.minio import MinioStore
from tests.support.s3 import S3Server
from tests.support.tls import Authority, make_authority, tls_front
from tests.support.wait import eventually_async

Store = DirectoryStore | MinioStore
JPEG = b"\xff\xd8" + bytes(range(256)) * 8 + b"\xff\xd9"
KEY = "edge1/porch/2026/11/22/20261122T073112345Z-7c1e9a/000003.jpg"
METADATA = {
    "camera": "porch",
    "instance": "edge1",
    "event-id": "20261122T073112345Z-7c1e9a",
    "captured-at": "2026-11-22T07:31:12.745000Z",
    "score": "0.034100",
}
TAGS = {"camera": "porch", "kind": "frame"}


async def put(store: Store, key: str = KEY, data: bytes = JPEG) -> str:
    metadata = METADATA | {"sha256": hashlib.sha256(data).hexdigest()}
    return await store.put(key, data, content_type="image/jpeg", metadata=metadata, tags=TAGS)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is stored beside an object's bytes."""

    content_type: str
    metadata: Mapping[str, str]
    etag: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place to store: `open` returns a store that is not entered yet, `look` inspects stored objects."""

    open: Callable[[], Store]
    look: Callable[[str], Awaitable[Look]]


@pytest.fixture(params=["seaweedfs", "juicefs"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["directory", "seaweedfs", "juicefs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return in_directory(tmp_path / "new" / "objects")
    return in_bucket(request.getfixturevalue(request.param))


def in_directory(path: Path) -> Place:
    async def look(key: str) -> Look:
        about = await DirectoryStore(path).metadata(key)
        return Look(content_type=about["content_type"], metadata=about["metadata"], etag=about["etag"])

    return Place(open=lambda: DirectoryStore(path), look=look)


def in_bucket(server: S3Server) -> Place:
    bucket = server.make_bucket()

    async def look(key: str) -> Look:
        async with server.raw() as client:
            seen = await client.stat_object(bucket, key)
        headers = {name.lower(): value for name, value in dict(seen.metadata or {}).items()}
        metadata = {
            name.removeprefix("x-amz-meta-"): value
            for name, value in headers.items()
            if name.startswith("x-amz-meta-")
        }
        return Look(content_type=headers["content-type"], metadata=metadata, etag=str(seen.etag))

    return Place(open=lambda: MinioStore(bucket=bucket, **server.admin.arguments()), look=look)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    async with place.open() as opened:
        yield opened


class TestEveryStore:
    async def test_what_is_put_can_be_fetched(self, store: Store) -> None:
        etag = await put(store)

        assert etag == hashlib.md5(JPEG).hexdigest()
        assert await store.get(KEY) == JPEG

    async def test_a_repeat_changes_nothing(self, store: Store, place: Place) -> None:
        first = await put(store)

        assert await put(store) == first
        assert await store.get(KEY) == JPEG
        assert [key async for key in store.find()] == [KEY]
        assert (await place.look(KEY)).etag == first

    async def test_other_bytes_replace_the_old(self, store: Store) -> None:
        await put(store, data=b"old and longer")

        etag = await put(store, data=b"new")

        assert await store.get(KEY) == b"new"
        assert etag == hashlib.md5(b"new").hexdigest()

    async def test_the_object_says_what_it_is(self, store: Store, place: Place) -> None:
        etag = await put(store)

        seen = await place.look(KEY)

        metadata = METADATA | {"sha256": hashlib.sha256(JPEG).hexdigest()}
        assert seen == Look(content_type="image/jpeg", metadata=metadata, etag=etag)

    @pytest.mark.parametrize("size", [0, 1, 1_500_000, 3_000_000, 7_000_000])
    async def test_bodies_of_every_size(self, store: Store, size: int) -> None:
        data = (b"0123456789abcdef" * (size // 16 + 1))[:size]

        etag = await put(store, data=data)

        assert etag == hashlib.md5(data).hexdigest()
        assert await store.get(KEY) == data

    async def test_many_puts_at_once(self, store: Store) -> None:
        wanted = {f"edge1/porch/{number:06d}.jpg": b"%d" % number * 50_000 for number in range(16)}

        async with asyncio.TaskGroup() as tasks:
            for key, data in wanted.items():
                tasks.create_task(put(store, key, data), name=f"put {key}")

        assert {key: await store.get(key) for key in wanted} == wanted

    async def test_a_missing_object_is_named(self, store: Store) -> None:
        with pytest.raises(RecordRejected, match="nobody/home"):
            await store.get("nobody/home.jpg")

    async def test_delete_is_for_good_and_may_be_repeated(self, store: Store) -> None:
        await put(store)

        await store.delete(KEY)
        await store.delete(KEY)
        await store.delete("never/was.jpg")

        with pytest.raises(RecordRejected):
            await store.get(KEY)
        assert [key async for key in store.find()] == []

    async def test_keys_are_listed_by_prefix_in_order(self, store: Store) -> None:
        for key in ("b/2.jpg", "a/x/1.jpg", "b/1.jpg", "ab/1.jpg", "a/.hidden/.1"):
            await put(store, key)

        assert [key async for key in store.find("a")] == ["a/.hidden/.1", "a/x/1.jpg", "ab/1.jpg"]
        assert [key async for key in store.find("b/")] == ["b/1.jpg", "b/2.jpg"]
        assert [key async for key in store.find("nobody/")] == []

    @pytest.mark.parametrize("prefix", ["../", "/etc/", "a//", "./"])
    async def test_a_prefix_leads_nowhere_else(self, store: Store, prefix: str) -> None:
        await put(store)
        found = []

        with contextlib.suppress(RecordRejected):  # MinIO's answer for such a prefix
            found = [key async for key in store.find(prefix)]

        assert found == []

    async def test_the_probe_passes_and_is_never_a_frame(self, store: Store) -> None:
        await store.probe()

        assert [key async for key in store.find("edge1/")] == []

    async def test_objects_outlive_the_store(self, store: Store, place: Place) -> None:
        await put(store)
        await store.__aexit__(None, None, None)

        async with place.open() as again:
            assert await again.get(KEY) == JPEG

    @pytest.mark.parametrize("key", ["../outside.jpg", "a/../../outside.jpg", "a/./b.jpg", "..", ""])
    async def test_a_key_leads_nowhere_else(self, store: Store, key: str) -> None:
        with pytest.raises(RecordRejected):
            await put(store, key)


class TestS3:
    async def test_a_missing_bucket_is_made_by_a_put(self, server: S3Server) -> None:
        bucket = server.new_name()
        async with MinioStore(bucket=bucket, **server.admin.arguments()) as store:
            await put(store)

            assert await store.get(KEY) == JPEG

    async def test_a_missing_bucket_is_made_by_the_probe(self, server: S3Server) -> None:
        bucket = server.new_name()
        async with MinioStore(bucket=bucket, **server.admin.arguments()) as store:
            await store.probe()
        async with server.raw() as client:
            assert await client.bucket_exists(bucket)

    async def test_many_find_the_bucket_missing_at_once(self, server: S3Server) -> None:
        bucket = server.new_name()
        async with MinioStore(bucket=bucket, **server.admin.arguments()) as store:
            async with asyncio.TaskGroup() as tasks:
                for number in range(8):
                    tasks.create_task(put(store, f"a/{number}.jpg"), name=f"put {number}")

            assert len([key async for key in store.find("a/")]) == 8

    async def test_a_missing_bucket_that_may_not_be_made_is_reported(self, server: S3Server) -> None:
        bucket = server.new_name()
        async with MinioStore(bucket=bucket, create_bucket=False, **server.admin.arguments()) as store:
            for call in (put(store), store.probe()):
                with pytest.raises(StoreRefused, match=f"bucket {bucket} does not exist.*create_bucket"):
                    await call

    @pytest.mark.parametrize("field", ["secret_key", "access_key"])
    @pytest.mark.parametrize("size", [100, 3_000_000])
    async def test_wrong_keys_are_refused_and_not_shown(
        self, server: S3Server, field: str, size: int
    ) -> None:
        arguments = {**server.admin.arguments(), field: "not-the-right-one"}
        async with MinioStore(bucket=server.make_bucket(), **arguments) as store:
            with pytest.raises(StoreRefused) as caught:
                await put(store, data=b"x" * size)
            with pytest.raises(StoreRefused):
                await store.probe()

        assert "not-the-right-one" not in str(caught.value)
        assert server.admin.secret_key not in str(caught.value)

    async def test_an_uploader_needs_no_other_right(self, seaweedfs: S3Server) -> None:
        assert seaweedfs.uploader is not None
        bucket = seaweedfs.make_bucket()
        async with MinioStore(bucket=bucket, **seaweedfs.uploader.arguments()) as store:
            await store.probe()
            etag = await put(store)
            with pytest.raises(StoreRefused, match="AccessDenied"):
                await store.get(KEY)
            with pytest.raises(StoreRefused, match="AccessDenied"):
                _ = [key async for key in store.find()]

        assert etag == hashlib.md5(JPEG).hexdigest()

    async def test_an_uploader_may_not_make_the_bucket(self, seaweedfs: S3Server) -> None:
        assert seaweedfs.uploader is not None
        bucket = seaweedfs.new_name()
        async with MinioStore(bucket=bucket, **seaweedfs.uploader.arguments()) as store:
            with pytest.raises(StoreRefused, match=f"bucket {bucket} does not exist, and cannot be created"):
                await put(store)

    async def test_a_link_needs_no_keys_and_bears_no_change(self, server: S3Server) -> None:
        async with MinioStore(bucket=server.make_bucket(), **server.admin.arguments()) as store:
            await put(store)
            link = await store.link(KEY, 60)
        assert link is not None
        start, _, signature = link.rpartition("=")
        turned = f"{start}={signature[:-1]}{'0' if signature[-1] != '0' else '1'}"

        async with aiohttp.ClientSession() as anybody:
            async with anybody.get(link) as answer:
                assert (answer.status, await answer.read()) == (200, JPEG)
            for other in (turned, link.replace("000003", "000004"), link.partition("?")[0]):
                async with anybody.get(other) as answer:
                    assert answer.status == 403, other
        assert server.admin.secret_key not in link

    async def test_a_link_ends(self, server: S3Server) -> None:
        async with MinioStore(bucket=server.make_bucket(), **server.admin.arguments()) as store:
            await put(store)
            link = await store.link(KEY, 1)
        assert link is not None

        async with aiohttp.ClientSession() as anybody:

            async def refused() -> bool:
                async with anybody.get(link) as answer:
                    return answer.status == 403

            await eventually_async(refused, within_s=30, what="the link to end")

    @pytest.mark.parametrize(("wanted", "found"), [(True, TAGS), (False, None)])
    async def test_tags_are_a_setting(
        self, server: S3Server, wanted: bool, found: dict[str, str] | None
    ) -> None:
        bucket = server.make_bucket()
        async with MinioStore(bucket=bucket, tags=wanted, **server.admin.arguments()) as store:
            await store.probe()
            await put(store)
        async with server.raw() as client:
            tags = await client.get_object_tags(bucket, KEY)

        assert (dict(tags) if tags else None) == found

    async def test_what_the_server_cannot_do_does_not_count_against_the_frame(
        self, juicefs: S3Server
    ) -> None:
        async with MinioStore(
            bucket=juicefs.make_bucket(), encryption="sse-s3", **juicefs.admin.arguments()
        ) as store:
            for call in (put(store), store.probe()):
                with pytest.raises(StoreRefused, match="NotImplemented"):
                    await call

    async def test_encryption_is_asked_for(self, seaweedfs: S3Server) -> None:
        bucket = seaweedfs.make_bucket()
        async with MinioStore(bucket=bucket, encryption="sse-s3", **seaweedfs.admin.arguments()) as store:
            await put(store)
            assert await store.get(KEY) == JPEG
        async with seaweedfs.raw() as client:
            seen = await client.stat_object(bucket, KEY)

        headers = {name.lower(): value for name, value in dict(seen.metadata or {}).items()}
        assert headers["x-amz-server-side-encryption"] == "AES256"

    @pytest.mark.parametrize(
        "metadata", [{"camera": "Flügel"}, {"camera": "porch\r\nx-amz-acl: public-read"}]
    )
    async def test_metadata_that_cannot_travel_is_the_records_fault(
        self, server: S3Server, metadata: dict[str, str]
    ) -> None:
        async with MinioStore(bucket=server.make_bucket(), **server.admin.arguments()) as store:
            with pytest.raises(RecordRejected, match="000003"):
                await store.put(KEY, JPEG, content_type="image/jpeg", metadata=metadata, tags={})

    async def test_what_one_server_refuses_for_good_stops_nothing(self, juicefs: S3Server) -> None:
        async with MinioStore(bucket=juicefs.make_bucket(), **juicefs.admin.arguments()) as store:
            with pytest.raises(RecordRejected, match="MetadataTooLarge"):
                await store.put(KEY, JPEG, content_type="image/jpeg", metadata={"a": "x" * 9000}, tags={})
            await put(store)

    async def test_bytes_that_are_not_those_of_the_digest_do_not_arrive(self, juicefs: S3Server) -> None:
        # MinIO's code checks the digest; SeaweedFS accepts any.
        metadata = {"sha256": hashlib.sha256(b"others").hexdigest()}
        async with MinioStore(bucket=juicefs.make_bucket(), **juicefs.admin.arguments()) as store:
            with pytest.raises(StoreUnavailable, match="XAmzContentSHA256Mismatch"):
                await store.put(KEY, JPEG, content_type="image/jpeg", metadata=metadata, tags={})
            with pytest.raises(RecordRejected, match="NoSuchKey"):
                await store.get(KEY)


@contextlib.contextmanager
def paused(server: S3Server) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


class TestOutages:
    async def test_a_server_that_hangs_is_given_up_in_time(self, server: S3Server) -> None:
        async with MinioStore(
            bucket=server.make_bucket(), put_timeout_s=1.0, **server.admin.arguments()
        ) as store:
            await put(store, "before.jpg")
            with paused(server):
                # A cancelled request may still be executed later: the delete must use another key.
                for call in (put(store), store.get("before.jpg"), store.probe(), store.delete("other.jpg")):
                    started = time.monotonic()
                    with pytest.raises(StoreUnavailable, match="no answer within 1 s") as caught:
                        await call
                    assert time.monotonic() - started < 10
                    assert not isinstance(caught.value, StoreRefused)

            # The object may have been stored after all: a repeated put is harmless.
            async def stored() -> bool:
                try:
                    return bool(await put(store))
                except StoreUnavailable:
                    return False

            await eventually_async(stored, what="the server to go on")
            assert await store.get(KEY) == JPEG

    async def test_a_server_that_dies_is_found_again(self, server: S3Server) -> None:
        async with MinioStore(bucket=server.make_bucket(), **server.admin.arguments()) as store:
            await put(store, "before.jpg")
            server.kill()
            try:
                for call in (put(store), store.probe()):
                    with pytest.raises(StoreUnavailable, match=r"cannot connect|closed|broke") as caught:
                        await call
                    assert not isinstance(caught.value, StoreRefused)
            finally:
                server.start()

            async def goes_on() -> bool:
                # A server that listens again may still be loading its volumes.
                try:
                    await put(store)
                    return await store.get("before.jpg") == await store.get(KEY) == JPEG
                except StoreUnavailable:
                    return False

            await eventually_async(goes_on, within_s=90, what="the server to go on")

    async def test_a_host_name_that_is_not_known(self) -> None:
        async with MinioStore(
            endpoint="store.invalid:9000", bucket="motion", access_key="a", secret_key="b" * 8
        ) as store:
            with pytest.raises(StoreUnavailable, match=r"store\.invalid"):
                await put(store)


@contextlib.asynccontextmanager
async def connect_proxy() -> AsyncIterator[tuple[int, list[str]]]:
    """Yield the port of an HTTP proxy that supports only CONNECT, and the list of requested addresses."""
    asked: list[str] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        address = head.split()[1]
        asked.append(address)
        host, _, port = address.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, far_writer))
            tasks.create_task(pump(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


class TestTls:
    async def test_a_home_made_authority_is_trusted_when_named(
        self, server: S3Server, authority: Authority
    ) -> None:
        async with tls_front(authority, server.port) as port:
            arguments = self.arguments(server, port) | {"ca_file": str(authority.ca_file)}
            async with MinioStore(bucket=server.make_bucket(), **arguments) as store:
                await store.probe()
                await put(store)
                await put(store, "large.jpg", JPEG * 1000)

                assert await store.get("large.jpg") == JPEG * 1000
                link = await store.link(KEY, 60)
        assert link is not None
        assert link.startswith(f"https://127.0.0.1:{port}/")

    @pytest.mark.parametrize("secure", [False, True])
    async def test_a_bucket_with_object_lock_takes_frames(
        self, seaweedfs: S3Server, authority: Authority, secure: bool
    ) -> None:
        bucket = seaweedfs.new_name()
        async with seaweedfs.raw() as client:
            await client.make_bucket(bucket, object_lock=True)
            await client.set_object_lock_config(bucket, ObjectLockConfig(GOVERNANCE, 1, DAYS))
        async with tls_front(authority, seaweedfs.port) as port:
            arguments = seaweedfs.admin.arguments()
            if secure:
                arguments = self.arguments(seaweedfs, port) | {"ca_file": str(authority.ca_file)}
            async with MinioStore(bucket=bucket, **arguments) as store:
                await store.probe()
                await put(store)
                await put(store)
                assert await store.get(KEY) == JPEG
        async with seaweedfs.raw() as client:
            kept = await client.get_object_retention(bucket, KEY)
        assert kept is not None
        assert kept.mode == GOVERNANCE

    async def test_an_unknown_authority_is_not_trusted(
        self, server: S3Server, authority: Authority, tmp_path: Path
    ) -> None:
        other = make_authority(tmp_path / "other")
        async with tls_front(authority, server.port) as port:
            for ca_file in (None, str(other.ca_file)):
                arguments = self.arguments(server, port) | {"ca_file": ca_file}
                async with MinioStore(bucket=server.make_bucket(), **arguments) as store:
                    with pytest.raises(StoreUnavailable, match=r"certificate.*ca_file"):
                        await put(store)

    async def test_the_cause_of_a_refusal_is_named(self, server: S3Server, authority: Authority) -> None:
        async with tls_front(authority, server.port, "127.0.0.2") as port:
            arguments = self.arguments(server, port) | {"ca_file": str(authority.ca_file)}
            # 127.0.0.2 is also this machine, but not in the certificate.
            other_name = arguments | {"endpoint": f"127.0.0.2:{port}"}
            async with MinioStore(bucket="motion", **other_name) as store:
                with pytest.raises(StoreUnavailable, match=r"it is not valid for 127\.0\.0\.2"):
                    await put(store)
        no_tls = self.arguments(server, server.port)
        async with MinioStore(bucket="motion", **no_tls) as store:
            with pytest.raises(StoreUnavailable, match="does not speak TLS on this port"):
                await put(store)

    async def test_a_proxy_is_asked_for_https_alone(
        self, server: S3Server, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with tls_front(authority, server.port) as port, connect_proxy() as (proxy, asked):
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
            monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
            bucket = server.make_bucket()
            async with MinioStore(bucket=bucket, **server.admin.arguments()) as store:
                await put(store)
            assert asked == []
            arguments = self.arguments(server, port) | {"ca_file": str(authority.ca_file)}
            async with MinioStore(bucket=bucket, **arguments) as store:
                await put(store)
            assert asked == [f"127.0.0.1:{port}"]
            monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
            async with MinioStore(bucket=bucket, **arguments) as store:
                await put(store)
            assert len(asked) == 1
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("HTTPS_PROXY", "http://user:pass-word@127.0.0.1:9")
            async with MinioStore(bucket=bucket, **arguments) as store:
                with pytest.raises(StoreUnavailable, match="proxy of HTTPS_PROXY") as caught:
                    await put(store)
            assert "pass-word" not in str(caught.value)

    def arguments(self, server: S3Server, port: int) -> dict[str, Any]:
        return server.admin.arguments() | {"endpoint": f"127.0.0.1:{port}", "secure": True}
