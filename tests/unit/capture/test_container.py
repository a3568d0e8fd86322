from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import av
import pytest

from async_motion.capture import read_facts
from async_motion.errors import CameraRefused
from tests.support.video import make_clip


def dated(source: Path, target: Path, said: str) -> Path:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        new.metadata["creation_time"] = said
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def test_a_container_says_when_and_how_long(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=2, size=(160, 120))
    facts = read_facts(str(clip))
    assert facts.created_at is None
    assert facts.seconds == pytest.approx(2.0, abs=0.2)
    at = read_facts(str(dated(clip, tmp_path / "a.mp4", "2026-03-01T12:00:00Z"))).created_at
    assert at == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_clock_that_was_never_set_says_nothing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", seconds=1, size=(160, 120))
    assert read_facts(str(dated(clip, tmp_path / "b.mp4", "1970-01-01T00:00:01Z"))).created_at is None


def test_a_file_that_is_not_a_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    with pytest.raises(CameraRefused, match="not a video"):
        read_facts(str(tmp_path / "x.mp4"))
