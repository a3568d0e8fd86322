"""Cursors: what is accepted, and one client for each file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from async_motion.client import MotionClient
from async_motion.client.cursor import CursorFile, parse_cursor
from tests.support.bucket import INSTANCE, MemoryBucket
from tests.support.wait import eventually_async

GOOD = {"v": 1, "origin": "2026-11-22T07:00:00.000000Z", "cameras": {}}
LANE = {"upto": 3, "at": "2026-11-22T07:31:12.000000Z"}


def test_a_cursor_of_an_earlier_release_is_accepted() -> None:
    assert parse_cursor(json.dumps(GOOD), INSTANCE)["v"] == 1


def test_a_cursor_of_another_instance_is_refused() -> None:
    """Its cameras may have the same names: their events would be taken for known ones."""
    text = json.dumps(GOOD | {"instance": "edge2"})
    assert parse_cursor(text, "edge2")
    with pytest.raises(ValueError, match=f"not a cursor of instance {INSTANCE}: it is of 'edge2'"):
        parse_cursor(text, INSTANCE)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "[]",
        "[" * 100_000,
        json.dumps(GOOD | {"open": []}),
        json.dumps(GOOD | {"open": {"x": "y"}}),
        json.dumps(GOOD | {"cameras": []}),
        json.dumps(GOOD | {"cameras": {"porch": {"a41c07": LANE | {"upto": "x"}}}}),
        json.dumps(GOOD | {"cameras": {"porch": {"a41c07": LANE | {"at": 5}}}}),
        json.dumps(GOOD | {"cameras": {"porch": {"a41c07": LANE | {"holes": {"2": 1e300}}}}}),
        json.dumps(GOOD | {"cameras": {"porch": {"a41c07": LANE | {"holes": {"2": float("nan")}}}}}),
    ],
)
def test_a_damaged_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a cursor"):
        parse_cursor(text, INSTANCE)


@pytest.mark.parametrize("left", [b"", b"\0" * 40])
def test_a_file_emptied_by_power_loss_leaves_the_last_synced_cursor(tmp_path: Path, left: bytes) -> None:
    """XFS makes a rename durable before the bytes that were not synced."""
    path = tmp_path / "cursor"
    file = CursorFile(path)
    for number, at in ((1, 0.0), (2, 5.0), (3, 5.1), (4, 5.2)):
        file.write(f"{number}", monotonic=at)
    assert CursorFile(path).read() == "4"
    path.write_bytes(left)
    assert CursorFile(path).read() == "2"
    (tmp_path / ".cursor.synced").unlink()
    assert CursorFile(path).read() == left.decode(), "no cursor would mean to begin now"
    path.unlink()
    assert CursorFile(path).read() is None


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "cursor")
    assert file.read() is None
    file.open()
    file.write("one", monotonic=0.0)
    file.write("two", monotonic=0.1)
    assert file.read() == "two"
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cursor.lock", ".cursor.synced", "cursor"]


async def test_two_clients_cannot_share_a_file(tmp_path: Path) -> None:
    def client() -> MotionClient:
        return MotionClient(MemoryBucket(), instance=INSTANCE, cursor_file=tmp_path / "cursor")

    async with client():
        with pytest.raises(ValueError, match="another client uses this cursor_file"):
            await client().__aenter__()
    (tmp_path / "cursor").write_text(json.dumps(GOOD))
    waiting = client()
    (tmp_path / "cursor").write_text("torn")
    with pytest.raises(ValueError, match="not a cursor"):
        await waiting.__aenter__()
    (tmp_path / "cursor").write_text(json.dumps(GOOD))
    async with client():
        pass  # the lock was released


async def test_the_cursor_names_its_instance() -> None:
    async with MotionClient(MemoryBucket(), instance=INSTANCE) as client:
        waiting = asyncio.ensure_future(anext(client.events(json.dumps(GOOD))))
        await eventually_async(lambda: client.reader.requests.sent["list"] > 0)
        assert json.loads(client.cursor)["instance"] == INSTANCE
        waiting.cancel()
        await asyncio.wait([waiting])
