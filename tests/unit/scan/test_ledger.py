"""Markers, the days' lines, the index made from them, and the files that a second scan removes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from async_motion.app.buckets import build_bucket, build_events
from async_motion.scan import InProcess, ScanOutcome, ScanTask, scan
from async_motion.scan.ledger import days_of, ledger_of
from async_motion.scan.task import scan_recording
from async_motion.settings import Settings
from tests.unit.scan.kit import START, clip_in, recording_of, settings_in, spec_of

DAY = date(2026, 3, 1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_in(tmp_path_factory.mktemp("clip"))


async def events_of(settings: Settings) -> list[str]:
    async with build_bucket(settings) as bucket:
        return [event.event_id async for event in build_events(settings, bucket).events("porch")]


async def test_a_marker_counts_while_nothing_has_changed(clip: Path, tmp_path: Path) -> None:
    recording = recording_of(clip)
    settings = settings_in(tmp_path)
    spec = spec_of(settings, recording, store=True)
    outcome = await scan_recording(ScanTask(recording=recording, spec=spec))
    async with ledger_of(spec) as ledger:
        assert ledger is not None
        assert await ledger.known("porch") == {recording.digest}
        found = await ledger.find(recording, spec)
        assert found is not None
        assert found == (replace(outcome, remembered=True), True)
        for other in (
            replace(recording, size=recording.size + 1),
            replace(recording, started_at=START.replace(hour=1)),
        ):
            found = await ledger.find(other, spec)
            assert found is not None
            assert not found[1]
        found = await ledger.find(recording, replace(spec, fingerprint="other"))
        assert found is not None
        assert not found[1]
        found = await ledger.find(recording, replace(spec, video=True))
        assert found is not None
        assert not found[1], "the clip is still to be made"
        assert await ledger.find(replace(recording, place="/else.mp4"), spec) is None


async def test_a_marker_that_cannot_be_read_is_none(clip: Path, tmp_path: Path) -> None:
    recording = recording_of(clip)
    spec = spec_of(settings_in(tmp_path), recording, store=True)
    marker = tmp_path / "objects/edge1/.scan/1/porch/done" / f"{recording.digest}.json"
    marker.parent.mkdir(parents=True)
    async with ledger_of(spec) as ledger:
        assert ledger is not None
        for text in ("", "[]", "{}", '{"v": 1}', '{"v": 2}', '{"v":1,"size":"x","started_at":4}'):
            marker.write_text(text)
            assert await ledger.find(recording, spec) is None


async def test_a_marker_of_others_removes_no_folder(clip: Path, tmp_path: Path) -> None:
    """Who may put into the bucket must not choose what is removed here."""
    recording = recording_of(clip)
    spec = spec_of(settings_in(tmp_path), recording, store=True, stills=True, out=tmp_path / "out")
    kept = tmp_path / "home" / "file"
    kept.parent.mkdir()
    kept.write_text("x")
    async for _ in scan([recording], {"porch": spec}, InProcess()):
        pass
    marker = tmp_path / "objects/edge1/.scan/1/porch/done" / f"{recording.digest}.json"
    fields = json.loads(marker.read_text())
    fields["settings"] = "others"
    (event,) = fields["outcome"]["events"]
    fields["outcome"]["events"] = [event, {**event, "camera": "..", "event_id": "home"}]
    marker.write_text(json.dumps(fields))
    async for _ in scan([recording], {"porch": spec}, InProcess()):
        pass
    assert kept.exists()


async def test_the_index_of_a_day_has_the_lines_of_all_recordings(clip: Path, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    other = clip_in(tmp_path / "more", "20260301_130000.mp4")
    recordings = [recording_of(clip), recording_of(other, started_at=START.replace(hour=13))]
    spec = spec_of(settings, recordings[0], store=True)
    outcomes = [await scan_recording(ScanTask(recording=each, spec=spec)) for each in recordings]
    async with ledger_of(spec) as ledger:
        assert ledger is not None
        assert days_of(outcomes) == {DAY}
        assert await ledger.write_index("porch", DAY)
        assert not await ledger.write_index("porch", DAY), "it is as it should be"
        assert not await ledger.write_index("porch", date(2026, 3, 2)), "there is nothing"
    expected = sorted(event["event_id"] for outcome in outcomes for event in outcome.events)
    assert await events_of(settings) == expected
    index = tmp_path / "objects/edge1/.index/1/porch/2026/03"
    assert [path.name for path in index.glob("*.gz")] == ["01.5ca9ed.jsonl.gz"]


async def test_what_another_scan_no_longer_finds_is_removed(clip: Path, tmp_path: Path) -> None:
    async def run(settings: Settings) -> list[ScanOutcome]:
        spec = spec_of(settings, recording, store=True, stills=True, out=tmp_path / "out")
        return [each async for each in scan([recording], {"porch": spec}, InProcess())]

    recording = recording_of(clip)
    first = await run(settings_in(tmp_path))
    assert await events_of(settings_in(tmp_path)) == [first[0].events[0]["event_id"]]
    assert list((tmp_path / "out/porch").iterdir())
    everything = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    masked = settings_in(tmp_path, detect={"masks": everything})
    second = await run(masked)
    assert second[0].events == ()
    assert await events_of(masked) == []
    assert list((tmp_path / "out/porch").iterdir()) == []
    assert not list((tmp_path / "objects/edge1/porch").rglob("*.jpg"))
    third = await run(masked)
    assert third[0].remembered


async def test_without_a_place_to_keep_it_there_is_no_ledger(clip: Path, tmp_path: Path) -> None:
    async with ledger_of(spec_of(settings_in(tmp_path), recording_of(clip))) as ledger:
        assert ledger is None
