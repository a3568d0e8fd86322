"""One recording, scanned in this process."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import av
import pytest

from async_motion.core.payloads import parse_iso
from async_motion.scan import ScanTask
from async_motion.scan.task import NO_TIME, scan_recording
from tests.unit.scan.kit import START, clip_in, recording_of, settings_in, spec_of


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_in(tmp_path_factory.mktemp("clip"))


async def test_an_event_is_where_it_is_in_the_file(clip: Path, tmp_path: Path) -> None:
    recording = recording_of(clip)
    shares: list[float] = []
    outcome = await scan_recording(
        ScanTask(recording=recording, spec=spec_of(settings_in(tmp_path), recording)), shares.append
    )
    assert outcome.problem is None
    (event,) = outcome.events
    assert event["begin_s"] == pytest.approx(2.2, abs=0.5)
    assert parse_iso(event["started_at"]) == START + timedelta(seconds=event["begin_s"])
    assert event["time_from"] == "name"
    assert event["frames"] == len(event["stills"]) >= 3
    assert outcome.seconds == pytest.approx(8.0, abs=0.2)
    assert outcome.frames == pytest.approx(40, abs=3)
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    json.dumps(event)


@pytest.mark.parametrize("decode", ["all", "auto", "keyframes"])
async def test_the_same_recording_gives_the_same_outcome(clip: Path, tmp_path: Path, decode: str) -> None:
    recording = recording_of(clip)
    spec = spec_of(settings_in(tmp_path), recording, decode=decode)
    first = await scan_recording(ScanTask(recording=recording, spec=spec))
    again = await scan_recording(ScanTask(recording=recording, spec=replace(spec, threads=3)))
    assert first.frames
    assert first.events or decode == "keyframes"
    assert first == again


async def test_what_is_made_changes_nothing_in_the_events(clip: Path, tmp_path: Path) -> None:
    recording = recording_of(clip)
    settings = settings_in(tmp_path)
    bare = await scan_recording(ScanTask(recording=recording, spec=spec_of(settings, recording)))
    made = await scan_recording(
        ScanTask(
            recording=recording,
            spec=spec_of(settings, recording, store=True, stills=True, video=True, out=tmp_path / "out"),
        )
    )
    assert made.events == bare.events
    (event,) = made.events
    folder = tmp_path / "out" / "porch" / event["event_id"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"overlay.mp4"} | {f"{still['seq']:06d}.jpg" for still in event["stills"]}
    with av.open(str(folder / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) > 40, "at the recording's own rate"
    stored = tmp_path / "objects" / "edge1" / "porch" / "2026" / "03" / "01" / event["event_id"]
    summary = json.loads((stored / "event.json").read_text())
    assert [frame["seq"] for frame in summary["frames"]] == [still["seq"] for still in event["stills"]]


async def test_a_time_comes_from_the_container_or_the_file(clip: Path, tmp_path: Path) -> None:
    dated = tmp_path / "dated.mp4"
    with av.open(str(clip)) as old, av.open(str(dated), "w") as new:
        new.metadata["creation_time"] = "2025-05-05T05:05:05Z"
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    recording = recording_of(dated, started_at=None, start_source=None)
    spec = spec_of(settings_in(tmp_path), recording)
    outcome = await scan_recording(ScanTask(recording=recording, spec=spec))
    assert outcome.recording.start_source == "container"
    assert outcome.events[0]["started_at"].startswith("2025-05-05T05:05:")

    os.utime(clip, (START.timestamp(), START.timestamp()))
    recording = recording_of(clip, started_at=None, start_source=None)
    outcome = await scan_recording(ScanTask(recording=recording, spec=spec))
    assert outcome.recording.start_source == "modified"
    assert outcome.recording.started_at == START - timedelta(seconds=8)
    storing = replace(spec, store=True)
    outcome = await scan_recording(ScanTask(recording=recording, spec=storing))
    assert outcome.problem == NO_TIME
    assert not outcome.stops


async def test_a_broken_file_is_a_problem_of_its_own(clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    _write_half(clip, broken)
    for path, words in ((broken, "is not a video"), (tmp_path / "gone.mp4", "no such file")):
        recording = replace(recording_of(clip), place=str(path), name=path.name)
        spec = spec_of(settings_in(tmp_path), recording)
        outcome = await scan_recording(ScanTask(recording=recording, spec=spec))
        assert outcome.problem is not None
        assert outcome.problem.startswith(words)
        assert not outcome.stops
        assert not outcome.events


def _write_half(clip: Path, broken: Path) -> None:
    broken.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])


async def test_a_disk_that_takes_nothing_stops_the_scan(clip: Path, tmp_path: Path) -> None:
    recording = recording_of(clip)
    (tmp_path / "objects").write_text("a file where the store should be")
    spec = spec_of(settings_in(tmp_path), recording, store=True)
    outcome = await scan_recording(ScanTask(recording=recording, spec=spec))
    assert outcome.stops
    assert outcome.problem is not None
    assert "objects" in outcome.problem
