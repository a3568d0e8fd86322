"""The contract of bucket readers: the same cases on the directory and on two real S3 servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from async_motion.core.listing import Listed
from async_motion.errors import RecordRejected, StoreRefused, StoreUnavailable, UnreadableObject
from async_motion.retrieval import EventReader
from async_motion.retrieval.rebuild import rebuild
from async_motion.retrieval.removal import delete
from async_motion.store.directory_reader import DirectoryReader
from async_motion.store.minio_reader import MinioReader
from tests.support.bucket import INSTANCE, MadeEvent, index_objects, make_event
from tests.support.delivering import Bench, TroubledBroker
from tests.support.s3 import S3Server

Reader = DirectoryReader | MinioReader
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = "edge1/porch/2026/11/22/"


@pytest.fixture(params=["directory", "seaweedfs", "juicefs"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Reader]:
    if request.param == "directory":
        return lambda: DirectoryReader(tmp_path / "objects")
    server: S3Server = request.getfixturevalue(request.param)
    bucket = server.make_bucket()
    return lambda: MinioReader(bucket=bucket, create_bucket=False, **server.admin.arguments())


@pytest.fixture
async def reader(opened: Callable[[], Reader]) -> AsyncIterator[Reader]:
    async with opened() as store:
        yield store


async def put(reader: Reader, *keys: str, data: bytes = b"x") -> None:
    for key in keys:
        await reader.put(key, data, content_type="text/plain", metadata={}, tags={})


async def fill(reader: Reader, *events: MadeEvent) -> None:
    for event in events:
        for key, (data, about) in event.objects.items():
            await reader.put(key, data, content_type="image/jpeg", metadata=about, tags={})


class TestPieces:
    async def test_a_long_object_comes_in_pieces(self, reader: Reader) -> None:
        body = bytes(range(256)) * 12_345  # 3 MiB
        await put(reader, "long.mp4", data=body)
        pieces = [piece async for piece in reader.pieces("long.mp4")]
        assert b"".join(pieces) == body
        assert len(pieces) >= 3
        assert max(map(len, pieces)) <= 1024 * 1024

    async def test_a_missing_object_is_rejected(self, reader: Reader) -> None:
        await put(reader, "edge1/x")
        with pytest.raises(RecordRejected):
            await anext(reader.pieces("none.mp4"))


class TestPages:
    async def test_folders_and_objects_are_told_in_order(self, reader: Reader) -> None:
        await put(
            reader,
            f"{DAY}b/1",
            f"{DAY}b/2",
            f"{DAY}a/1",
            f"{DAY}c",
            f"{DAY}b.x",
            "edge1/porch/2026/11/23/d/1",
        )
        page = await reader.page(DAY, folders=True)
        assert page.folders == (f"{DAY}a/", f"{DAY}b/")
        assert page.objects == (Listed(f"{DAY}b.x", 1), Listed(f"{DAY}c", 1))
        assert page.next is None
        # Without a delimiter SeaweedFS lists b/1 before b.x: readers must not rely on an order here.
        await reader.remove([f"{DAY}b.x"])
        page = await reader.page(DAY)
        assert [each.key for each in page.objects] == [DAY + n for n in ("a/1", "b/1", "b/2", "c")]

    async def test_a_listing_can_begin_anywhere(self, reader: Reader) -> None:
        await put(reader, *(f"{DAY}2026112{n}T0/{k}" for n in range(5) for k in range(2)))
        page = await reader.page(DAY, folders=True, start_after=f"{DAY}20261122")
        assert page.folders == tuple(f"{DAY}2026112{n}T0/" for n in (2, 3, 4))
        page = await reader.page("edge1/", start_after=f"{DAY}20261123T0/0")
        assert [each.key for each in page.objects] == [
            f"{DAY}{k}" for k in ("20261123T0/1", "20261124T0/0", "20261124T0/1")
        ]
        assert (await reader.page(DAY, start_after=f"{DAY}3")).objects == ()

    async def test_where_nothing_is_the_page_is_empty(self, reader: Reader) -> None:
        await put(reader, "edge1/x")
        for prefix in ("none/", "edge1/x/", "edge1/porch/2026/"):
            page = await reader.page(prefix, folders=True)
            assert (page.objects, page.folders, page.next) == ((), (), None)

    async def test_odd_names_come_back_as_they_are(self, reader: Reader) -> None:
        keys = sorted(f"odd/{name}" for name in ("a b", "a+b", "a%2Bb", "ä&<é>", "100%"))
        await put(reader, *keys)
        assert [each.key for each in (await reader.page("odd/")).objects] == keys

    async def test_a_listing_continues_beyond_a_page(self, tmp_path: Path, seaweedfs: S3Server) -> None:
        """Use only one server: 1,100 puts take long."""
        bucket = seaweedfs.make_bucket()
        names = [f"{DAY}{n:05d}/x" for n in range(1100)]
        arguments = seaweedfs.admin.arguments()
        async with DirectoryReader(tmp_path) as one, MinioReader(bucket=bucket, **arguments) as other:
            for reader in (one, other):
                await put(reader, *names)
                first = await reader.page(DAY, folders=True)
                assert len(first.folders) == 1000
                second = await reader.page(DAY, folders=True, token=first.next)
                assert [*first.folders, *second.folders] == [name[:-1] for name in names]
                assert second.next is None


class TestObjects:
    async def test_a_read_is_bounded(self, reader: Reader) -> None:
        await put(reader, "k", data=b"12345")
        assert await reader.read("k", 5) == b"12345"
        assert await reader.read("none", 5) is None
        assert await reader.read("none/at/all", 5) is None
        with pytest.raises(UnreadableObject, match="longer than 4"):
            await reader.read("k", 4)

    async def test_metadata_come_back(self, reader: Reader) -> None:
        await reader.put("k", b"x", content_type="image/jpeg", metadata={"captured-at": "2026"}, tags={})
        about = await reader.about("k")
        assert about is not None
        assert about["captured-at"] == "2026"
        assert await reader.about("none") is None

    async def test_what_is_removed_is_gone(self, reader: Reader) -> None:
        await put(reader, "a/1", "a/2", "a/3")
        await reader.remove(["a/1", "a/3", "a/none"])
        assert [each.key for each in (await reader.page("a/")).objects] == ["a/2"]


class TestEvents:
    async def test_events_frames_and_jpegs(self, reader: Reader) -> None:
        ended = [
            make_event(camera=c, at=NOW - timedelta(days=d, hours=3), no=1)
            for d in (40, 0)
            for c in ("porch", "yard")
        ]
        going = make_event(at=NOW - timedelta(minutes=1), frames=3, ended=False)
        await fill(reader, *ended, going)
        events = EventReader(reader, instance=INSTANCE, now=lambda: NOW)
        bare = [event async for event in events.events()]
        assert [event.event_id for event in bare] == [event.event_id for event in (*ended, going)]
        for key, (data, _) in index_objects(ended).items():
            await reader.write(key, data, "application/gzip")
        assert [event async for event in events.events()] == bare
        assert [e async for e in events.events(reverse=True)] == bare[::-1]
        for event in bare:
            for frame in await events.frames(event):
                assert await events.fetch(frame) == f"{event.event_id} {frame.seq}".encode()
        assert bare[-1].peak_score == 0.03
        assert events.skipped.count == 0

    async def test_delivery_writes_an_index_that_answers_alone(self, reader: Reader) -> None:
        bench = Bench()
        async with bench.spool:
            writer = await bench.spool.writer()
            await bench.accept_event(3)
            await bench.accept_event(2, index=60)
            broker = TroubledBroker(check=lambda _topic, _payload: None)
            async with bench.delivering(store=reader, broker=broker, index_every_s=300.0) as delivery:
                assert await delivery.drain(60)
        events = EventReader(reader, instance=INSTANCE, now=lambda: NOW)
        listed = [event async for event in events.events("porch")]
        assert [(event.no, event.writer, event.frames) for event in listed] == [
            (1, writer, 3),
            (2, writer, 2),
        ]
        # Both come from the index: no `event.json` is read.
        assert events.requests.sent["read"] == 1
        (page,) = [page async for page in events.requests.pages(f"{INSTANCE}/.index/")]
        assert [f".{writer}.jsonl.gz" in each.key for each in page.objects] == [True]

    async def test_a_rebuilt_index_gives_the_same_answer(self, reader: Reader) -> None:
        ended = [make_event(at=NOW - timedelta(days=d), no=41 - d) for d in (40, 20, 10)]
        await fill(reader, *ended)
        events = EventReader(reader, instance=INSTANCE, now=lambda: NOW)
        bare = [event async for event in events.events()]
        assert [day.events async for day in rebuild(events)] == [1, 1, 1]
        before = events.requests.sent["read"]
        assert [event async for event in events.events()] == bare
        # Each day is one index file; the oldest is listed, too, and needs no summary.
        assert events.requests.sent["read"] - before == len(ended)

    async def test_a_deleted_event_is_gone_from_objects_and_index(self, reader: Reader) -> None:
        old, young = (make_event(at=NOW - timedelta(days=d), no=41 - d) for d in (40, 20))
        await fill(reader, old, young)
        for key, (data, _) in index_objects([old, young]).items():
            await reader.write(key, data, "application/gzip")
        events = EventReader(reader, instance=INSTANCE, now=lambda: NOW)
        first, second = [event async for event in events.events()]
        assert await delete(events, [second]) == len(young.objects)
        assert [event async for event in events.events()] == [first]
        # JuiceFS goes on listing the folder, which is now empty.
        left = [each.key for each in (await reader.page(f"{INSTANCE}/porch/")).objects if each.size]
        assert sorted(left) == sorted(old.objects)


async def test_no_listing_leads_out_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    async with DirectoryReader(tmp_path / "objects") as reader:
        for prefix in ("../", "a/../../", "/", "../secret"):
            assert (await reader.page(prefix)).objects == ()
            assert await reader.read(prefix, 10) is None


async def test_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    async with DirectoryReader(tmp_path / "none") as reader:
        events = EventReader(reader, instance=INSTANCE)
        assert [event async for event in events.events()] == []
    assert not (tmp_path / "none").exists()


async def test_a_link_begins_with_the_public_endpoint_and_leads_to_the_object(seaweedfs: S3Server) -> None:
    public = f"http://localhost:{seaweedfs.port}"
    arguments = seaweedfs.admin.arguments()
    async with MinioReader(bucket=seaweedfs.make_bucket(), link_endpoint=public, **arguments) as reader:
        await put(reader, "a/b.jpg", data=b"picture")
        link = await reader.link("a/b.jpg", 3600)
        assert link is not None
        assert link.startswith(f"{public}/")
        async with ClientSession() as session, session.get(link) as answer:
            assert (answer.status, await answer.read()) == (200, b"picture")


async def test_a_missing_bucket_and_wrong_keys_are_refusals(seaweedfs: S3Server) -> None:
    arguments = seaweedfs.admin.arguments()
    async with MinioReader(bucket=seaweedfs.new_name(), create_bucket=False, **arguments) as reader:
        with pytest.raises(StoreRefused):
            await reader.page("")
    bucket = seaweedfs.make_bucket()
    async with MinioReader(bucket=bucket, **{**arguments, "secret_key": "wrong"}) as reader:
        with pytest.raises(StoreRefused):
            await reader.page("")
        with pytest.raises(StoreRefused):
            await reader.about("x")


async def test_a_server_that_is_not_s3_is_unavailable() -> None:
    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>Log in to the hotel</html>")

    async def huge(_request: web.Request) -> web.Response:
        return web.Response(body=bytes(20_000_000))

    answers: list[Callable[[web.Request], Awaitable[web.Response]]] = [page, huge]
    for answer in answers:
        app = web.Application()
        app.router.add_get("/{any:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with MinioReader(
                endpoint=f"127.0.0.1:{port}", bucket="motion", access_key="a", secret_key="b"
            ) as reader:
                with pytest.raises(StoreUnavailable, match=r"not a listing|too long"):
                    await reader.page("")
        finally:
            await runner.cleanup()
