"""`async-motion events` over a directory store."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from async_motion.cli import main
from async_motion.cli.events import sparkline
from tests.support.bucket import INSTANCE, MadeEvent, fill, make_event
from tests.support.zone import local_zone

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "v.yaml"
    file.write_text(f"instance: {INSTANCE}\ndirectory: {{path: {tmp_path / 'objects'}}}\n")
    return file


@pytest.fixture
def made(tmp_path: Path) -> list[MadeEvent]:
    events = [
        make_event(camera="porch", at=NOW - timedelta(hours=30), frames=5, zones=["drive"], no=1),
        make_event(camera="yard", at=NOW - timedelta(hours=1), frames=2, scores=[0.2, 0.1], no=1),
        make_event(camera="porch", at=NOW - timedelta(minutes=10), frames=30, zones=["drive", "door"], no=2),
    ]
    fill(tmp_path / "objects", *events)
    return events


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_table_says_when_what_and_how(
    config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--config", str(config)]) == 0
    heading, *rows = lines(capsys)
    assert heading.split() == ["began", "camera", "lasted", "frames", "peak", "score", "event"]
    assert [row.split()[-1] for row in rows[1:2]] == [made[1].event_id]
    at = made[1].frames[0].captured_at.astimezone()
    assert rows[1].startswith(f"{at:%Y-%m-%d %H:%M:%S%z}  yard ")
    assert " 20.0%  █▄ " in rows[1]
    assert rows[2].endswith("[drive, door]")
    assert len(rows) == 3


def test_the_filters_choose(config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]) -> None:
    def ids(*options: str) -> list[str]:
        assert main(["events", "--config", str(config), "--json", *options]) == 0
        return [json.loads(line)["event_id"] for line in lines(capsys)]

    first, second, third = (event.event_id for event in made)
    assert ids() == [first, second, third]
    assert ids("--since", "2h") == [second, third]
    assert ids("--camera", "porch") == [first, third]
    assert ids("--zone", "door") == [third]
    assert ids("--min-score", "20%") == [second, third]
    assert ids("--min-duration", "10s") == [third]
    assert ids("--reverse", "--limit", "2") == [third, second]
    assert ids("--to", "20h") == [first]
    assert ids("--instance", "other") == []


def test_json_and_csv_say_the_same(
    config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--config", str(config), "--json"]) == 0
    as_json = [json.loads(line) for line in lines(capsys)]
    assert main(["events", "--config", str(config), "--csv"]) == 0
    as_csv = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["event_id"] for row in as_csv] == [said["event_id"] for said in as_json]
    assert as_csv[2]["zones"] == "drive door"
    assert as_csv[2]["scores"].split() == [f"{score:g}" for score in as_json[2]["scores"]]
    assert as_json[0]["best_frame"] == as_csv[0]["best_frame"] == made[0].frames[-1].object_key
    assert as_json[0]["folder"] == made[0].folder
    assert as_json[0]["started_at"].endswith("Z")


def test_a_rebuilt_index_gives_the_same_events(
    config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--config", str(config), "--json"]) == 0
    before = lines(capsys)
    assert main(["events", "--config", str(config), "--rebuild"]) == 0
    assert lines(capsys)[-1].startswith(f"index rebuilt: {len(made)} events in ")
    files = sorted((tmp_path / "objects" / INSTANCE / ".index").rglob("*.gz"))
    assert files
    assert all(".000000." in file.name for file in files)
    assert main(["events", "--config", str(config), "--json"]) == 0
    assert lines(capsys) == before
    contents = [file.read_bytes() for file in files]
    assert main(["events", "--config", str(config), "--rebuild", "--camera", "porch"]) == 0
    assert [file.read_bytes() for file in files] == contents


def test_unreadable_objects_are_reported(
    config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "objects" / made[0].folder / "event.json").write_bytes(b"{")
    assert main(["events", "--config", str(config)]) == 0
    said = capsys.readouterr()
    assert "no end" in said.out
    assert "1 object could not be read:" in said.err
    assert f"{made[0].folder}event.json: event summary: not JSON" in said.err


def test_watching_begins_with_history(
    config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["events", "--config", str(config), "--watch", "--since", "2d", "--limit", "2", "--json"]) == 0
    )
    ids = [json.loads(line)["event_id"] for line in lines(capsys)]
    assert len(ids) == 2
    assert set(ids) <= {event.event_id for event in made}


def test_watching_shows_the_past_by_time_then_each_new_event_once(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    past = [
        make_event(camera=camera, at=now - timedelta(minutes=age), salt=age, no=no)
        for camera, age, no in (("yard", 50, 1), ("porch", 40, 1), ("yard", 30, 2), ("porch", 20, 2))
    ]
    new = make_event(camera="yard", at=now, no=3)
    fill(tmp_path / "objects", *past)

    async def put_then_find(*_: object) -> None:
        """Store an event between the past and the first read of the client."""
        await asyncio.to_thread(fill, tmp_path / "objects", new)
        raise TimeoutError

    monkeypatch.setattr("async_motion.app.build.find_broker", put_then_find)
    words = ["--watch", "--since", "1h", "--limit", "5", "--json"]
    assert main(["events", "--config", str(config), *words]) == 0
    ids = [json.loads(line)["event_id"] for line in lines(capsys)]
    assert ids == [event.event_id for event in [*past, new]]


def test_nothing_is_said_to_be_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "--config", str(config), "--since", "2h"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "no events\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "soon"], "--since: soon: expected a time"),
        (["--on", "today", "--since", "2h"], "--on: expected alone"),
        (["--since", "1h", "--to", "2h"], "--to: it is not after"),
        (["--camera", "Porch!"], "--camera: Porch!: expected a name"),
        (["--min-score", "lots"], "--min-score: lots: expected a share"),
        (["--min-score", "200%"], "--min-score: 200%: expected a share"),
        (["--min-duration", "5"], "--min-duration: 5: expected a duration"),
        (["--watch", "--on", "today"], "--watch: expected without"),
        (["--limit", "0"], "--limit: 0: expected"),
        (["--rebuild", "--zone", "door"], "--rebuild: expected only"),
    ],
)
def test_wrong_usage_is_one_line(
    options: list[str], expected: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["events", "--config", str(config), *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(expected)
    assert len(said.err.splitlines()) == 1


def test_a_sparkline_shows_the_course() -> None:
    assert sparkline(()) == ""
    assert sparkline((0.0, 0.0)) == "▁▁"
    assert sparkline((0.01, 0.02, 0.04)) == "▂▄█"
