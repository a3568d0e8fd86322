"""`async-motion listen`: fetching a frame by its key, hostile messages, and terminal output.

A frame is written whole or not at all, only inside the folder, and only if its SHA-256 matches.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from async_motion.app import build
from async_motion.broker.fake import FakeBroker, FakeServer
from async_motion.cli.listen import MAX_WAITING, Arrivals, FetchError, fetch, listen
from async_motion.core import payloads
from async_motion.core.model import StoredFrame
from async_motion.errors import RecordRejected
from async_motion.settings import Settings, load
from tests.support.records import make_event, make_record, stored_of

JPEG = b"\xff\xd8 not really a picture \xff\xd9"


class Shelf:
    """A store in memory with the given objects."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = {"edge1/porch/1.jpg": JPEG, **objects}

    async def get(self, key: str) -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise RecordRejected(f"{key}: no such object") from None


def announced(key: str = "edge1/porch/1.jpg", data: bytes = JPEG) -> StoredFrame:
    record = make_record(make_event(), 0, jpeg=data)
    return stored_of(replace(record, info=replace(record.info, object_key=key)))


async def test_fetch_writes_the_bytes_under_the_key(tmp_path: Path) -> None:
    target = await fetch(announced(), Shelf(), tmp_path)
    assert target == tmp_path / "edge1/porch/1.jpg"
    assert target.read_bytes() == JPEG
    assert [p.name for p in target.parent.iterdir()] == ["1.jpg"]


async def test_other_bytes_are_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="sha256"):
        await fetch(announced(data=b"something else"), Shelf(), tmp_path)
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


@pytest.mark.parametrize("key", ["../../etc/passwd", "/etc/passwd", "a/../../b.jpg", ""])
async def test_a_key_cannot_leave_the_folder(key: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="leads out of the folder"):
        await fetch(announced(key), Shelf(**{key: JPEG}), tmp_path / "in")
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_missing_object_says_so(tmp_path: Path) -> None:
    stored = announced()
    gone = replace(stored, info=replace(stored.info, object_key="edge1/porch/2.jpg"))
    with pytest.raises(RecordRejected, match="no such object"):
        await fetch(gone, Shelf(), tmp_path)


SETTINGS = load(None, {})

Connect = Callable[..., None]


@pytest.fixture
def connect_to(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return a function: `listen` then connects to a broker with these messages and one announcement."""

    async def find_broker(_: Settings, _say: object) -> tuple[str, int]:
        return "127.0.0.1", 1883

    def connect_to(*before: bytes) -> None:
        broker = FakeBroker(FakeServer())

        def publish() -> None:
            for payload in (*before, payloads.encode(payloads.frame_payload(announced()))):
                broker.server.take(f"async_motion/{SETTINGS.instance}/porch/frame", payload)

        broker.on_connect(publish)
        monkeypatch.setattr(build, "build_client", lambda *_, **__: broker)

    monkeypatch.setattr(build, "find_broker", find_broker)
    return connect_to


async def test_a_closed_pipe_is_not_reported_as_a_group_of_errors(
    monkeypatch: pytest.MonkeyPatch, connect_to: Connect
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    connect_to()
    monkeypatch.setattr(sys.stdout, "write", gone)
    with pytest.raises(BrokenPipeError):  # the only error on which the command line ends quietly
        await listen(SETTINGS, as_json=True, save=None, camera=None, all_instances=False, count=None)


def forged(**fields: object) -> bytes:
    return json.dumps(payloads.frame_payload(announced()) | fields).encode()


HOSTILE = (
    b"[" * 5000,
    b"NaN",
    b"\xff\xfe",
    b'"\\ud800"',
    b"{}",
    forged(camera="\x1b[2J"),
    forged(captured_at="0001-01-01T00:00:00+14:00"),
    forged(captured_at="+99999"),
    forged(score=float("nan")),
    forged(score=1e308),
    forged(boxes=[[[]]]),
    forged(object_key="a\nforged line"),
    forged(seq=2**70),
    forged(size="1" * 5000),
)


@pytest.mark.parametrize("as_json", [False, True])
async def test_an_invalid_announcement_neither_ends_it_nor_reaches_the_terminal(
    connect_to: Connect, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    connect_to(*HOSTILE, *[b"junk"] * 1000)
    code = await listen(SETTINGS, as_json=as_json, save=None, camera=None, all_instances=False, count=1)
    assert code == 0
    said = capsys.readouterr()
    assert said.out.count("edge1/porch/1.jpg") == 1
    assert "\x1b" not in said.out + said.err
    assert "forged" not in said.out + said.err
    refusals = [line for line in said.err.splitlines() if line.startswith("not an announcement: ")]
    assert 5 < len(refusals) < 15, "told at the 1st, 2nd, 4th …"


async def test_what_is_shown_is_one_line_without_tricks(
    connect_to: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    tricky = forged(object_key="a/\u202egpj.exe", seq=7, more="\x1b[31m\n\x85\u2028", colour="rot\x7f")
    for as_json in (False, True):
        connect_to(tricky)
        await listen(SETTINGS, as_json=as_json, save=None, camera=None, all_instances=False, count=1)
        said = capsys.readouterr().out
        assert "u202egpj" in said
        assert all(char == "\n" or char.isprintable() for char in said)
        assert len(said.splitlines()) == (1 if as_json else 2)


def test_unread_announcements_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    arrived = Arrivals()
    for _ in range(MAX_WAITING + 3):
        arrived.put(b"{}")
    assert arrived.lost == 3
    assert capsys.readouterr().err.count("some are left out") == 1
