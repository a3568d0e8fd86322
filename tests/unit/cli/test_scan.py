"""`async-motion scan`: output, refused input and exit codes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from async_motion.cli import main
from async_motion.cli.scan import ScanLine
from async_motion.scan import Recording, ScanOutcome, ScanProgress
from tests.unit.scan.kit import clip_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    clip_in(root / "porch", "20260301_120000.mp4")
    clip_in(root / "porch", "20260301_121000.mp4", start_s=3.0)
    (root / "porch" / "20260301_122000.mp4").write_bytes(b"no video")
    return root


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASYNC_MOTION_CONFIG", raising=False)


def test_json_is_a_line_for_each_event(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["scan", str(folder), "--json", "--processes", "1", "--timezone", "UTC"]
    assert main(arguments) == 1, "a recording could not be read"
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [Path(line["file"]).name for line in lines] == ["20260301_120000.mp4", "20260301_121000.mp4"]
    assert {line["camera"] for line in lines} == {"porch"}
    assert lines[1]["started_at"].startswith("2026-03-01T12:10:03")
    assert "20260301_122000.mp4: is not a video that can be read" in err
    assert "3 recordings" in err
    assert "2 events; 1 could not be read" in err


def test_csv_has_a_header_and_the_table_has_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(folder / "porch" / "20260301_120000.mp4")
    assert main(["scan", clip, "--csv", "--processes", "1", "--start", "2026-03-01T12:00:00Z"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["time_from"] == "option"
    assert float(row["begin_s"]) == pytest.approx(2.2, abs=0.5)
    assert main(["scan", clip, "--processes", "1"]) == 0
    out, err = capsys.readouterr()
    heading, line = out.splitlines()
    assert heading.startswith("began")
    assert line.endswith("20260301_120000.mp4")
    assert "0:00:02" in line
    assert "times real time" in err


def test_the_same_command_goes_on_where_it_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(folder / "porch" / "20260301_120000.mp4")
    arguments = ["scan", clip, "--json", "--out", "made", "--stills", "--video", "--processes", "1"]
    assert main(arguments) == 0
    first = capsys.readouterr()
    assert main(arguments) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "done before" not in first.err
    assert "done before" in again.err
    assert main([*arguments, "--again"]) == 0
    assert "done before" not in capsys.readouterr().err
    assert len(list(Path("made/porch").glob("*/overlay.mp4"))) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such.mp4"], "no-such.mp4: no such file or folder"),
        (["x", "--camera", "Front Door"], "--camera: Front Door: expected a name"),
        (["x", "--processes", "0"], "--processes: 0: expected a number from 1"),
        (["x", "--stills"], "--stills, --video: expected with --out DIR"),
        (["x", "--timezone", "Mars/Base"], "--timezone: Mars/Base: expected a zone"),
        (["x", "--start", "soon"], "--start: soon: expected a time"),
        (["x", "--start", "0001-01-01T00:00+14:00"], "expected a time within the calendar"),
        (["s3://motion/rec"], "expected minio.endpoint"),
        (["s3:///rec"], "expected s3://bucket/prefix"),
    ],
)
def test_bad_input_is_one_clear_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert words in line


def test_the_line_says_how_far_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ScanProgress(recordings=4, bytes=40, began=100.0)
    shown = ScanLine(shows=True)
    assert "…" in shown.words(progress, 100.0)
    recording = Recording(place="/a", name="a", size=10, camera="porch")
    progress.finished(ScanOutcome(recording=recording, seconds=1200.0, events=({}, {})))
    assert shown.words(progress, 110.0) == (
        "1 of 4 recordings  25%  2 events  120 times real time  0:00:30 left"
    )
    shown.update(progress)
    shown.clear()
    assert capsys.readouterr().err.endswith("\r\x1b[K")
    ScanLine(shows=False).update(progress)
    assert capsys.readouterr().err == ""


def test_a_start_without_an_offset_is_in_the_zone() -> None:
    from async_motion.cli.scan import _start, _zone

    at = datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert _start("2026-03-01T12:00:00", _zone("Europe/Berlin")) == at
    assert _start("2026-03-01T12:00:00+01:00", _zone("UTC")) == at
    assert _start(None, None) is None
