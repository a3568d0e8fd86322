"""`async-motion get` and `delete` over a directory store."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from async_motion.cli import main
from async_motion.core.names import event_key
from async_motion.store import directory_reader
from tests.support.bucket import INSTANCE, MadeEvent, fill, make_event
from tests.support.service import clean_environment
from tests.support.still import walking_square
from tests.support.zone import local_zone

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def berlin() -> Iterator[None]:
    with local_zone("Europe/Berlin"):
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "v.yaml"
    zone = "{polygon: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]}"
    file.write_text(
        f"instance: {INSTANCE}\ndirectory: {{path: {tmp_path / 'objects'}}}\n"
        f"cameras: {{porch: {{source: 'demo:', detect: {{zones: {{drive: {zone}}}}}}}}}\n"
    )
    return file


@pytest.fixture
def made(tmp_path: Path) -> list[MadeEvent]:
    jpegs, boxes = walking_square(6)
    events = [
        make_event(
            at=NOW - timedelta(hours=30), jpegs=jpegs, boxes=boxes[:1], zones=["drive"], no=1, size=(640, 360)
        ),
        make_event(camera="yard", at=NOW - timedelta(hours=1), jpegs=jpegs[:2], no=1, size=(640, 360)),
    ]
    fill(tmp_path / "objects", *events)
    return events


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def run(config: Path, *words: object) -> int:
    return main([str(words[0]), "--config", str(config), *map(str, words[1:])])


class TestGet:
    def test_frames_and_summary_are_as_stored(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        assert run(config, "get", made[0].event_id, "--out", out, "--json") == 0
        folder = out / "porch" / made[0].event_id
        assert names(out) == sorted(
            f"porch/{made[0].event_id}/{name}" for name in [f"{n:06d}.jpg" for n in range(6)] + ["event.json"]
        )
        for frame in made[0].frames:
            data = (folder / f"{frame.seq:06d}.jpg").read_bytes()
            assert hashlib.sha256(data).hexdigest() == frame.sha256
        assert json.loads((folder / "event.json").read_text()) == made[0].summary
        said = capsys.readouterr()
        assert json.loads(said.out)["path"] == str(folder)
        assert said.err.startswith("1 event, 6 frames fetched, ")

    def test_the_same_filters_choose(self, config: Path, made: list[MadeEvent], tmp_path: Path) -> None:
        assert run(config, "get", "--since", "2h", "--out", tmp_path / "out") == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["yard"]
        assert made

    def test_what_is_there_is_not_fetched_again(
        self,
        config: Path,
        made: list[MadeEvent],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A killed command leaves whole and partial files: only missing or damaged frames are fetched."""
        out = tmp_path / "out"
        assert run(config, "get", made[0].event_id, "--out", out) == 0
        folder = out / "porch" / made[0].event_id
        (folder / "000002.jpg").unlink()
        (folder / ".000002.jpg.part").write_bytes(b"half")
        (folder / "000004.jpg").write_bytes(b"x" * made[0].frames[4].size)
        read: list[str] = []
        whole = directory_reader.DirectoryReader.read

        async def noted(self: Any, key: str, max_bytes: int) -> bytes | None:
            read.append(key)
            return await whole(self, key, max_bytes)

        monkeypatch.setattr(directory_reader.DirectoryReader, "read", noted)
        capsys.readouterr()
        assert run(config, "get", made[0].event_id, "--out", out) == 0
        fetched = [key for key in read if key.endswith(".jpg")]
        assert fetched == [made[0].frames[2].object_key, made[0].frames[4].object_key]
        assert "2 frames fetched" in capsys.readouterr().err
        assert not [name for name in names(out) if name.endswith(".part")]

    def test_the_exit_code_says_what_is_missing(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        objects = tmp_path / "objects"
        (objects / made[0].frames[1].object_key).unlink()
        (objects / made[0].frames[3].object_key).write_bytes(b"changed")
        assert run(config, "get", made[0].event_id, "--out", tmp_path / "out") == 1
        said = capsys.readouterr().err
        assert f"missing: {made[0].frames[1].object_key}: it no longer exists" in said
        assert f"missing: {made[0].frames[3].object_key}: its sha256 is not" in said
        assert len(names(tmp_path / "out")) == 4 + 1

    def test_an_unknown_event_is_missing(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        unknown = "20260101T000000000Z-000000"
        assert run(config, "get", unknown, made[1].event_id, "--out", tmp_path / "out") == 1
        assert f"missing: {unknown}: no such event" in capsys.readouterr().err
        assert names(tmp_path / "out")

    def test_sheet_clip_and_annotated_frames(
        self, config: Path, made: list[MadeEvent], tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        assert run(config, "get", "--to", "today", "--sheet", "--clip", "--annotate", "--out", out) == 0
        folder = out / "porch" / made[0].event_id
        sheet = cv2.imread(str(folder / "sheet.jpg"))
        assert sheet is not None
        assert sheet.shape[1] == 6 * 320
        with av.open(str(folder / "clip.mp4")) as clip:
            assert len(list(clip.decode(video=0))) == 7
        annotated = cv2.imread(str(folder / "annotated" / "000000.jpg"))
        plain = cv2.imread(str(folder / "000000.jpg"))
        assert annotated is not None
        assert plain is not None
        # The top edge of the zone, in blue.
        assert (annotated[36, 100:500].astype(int) - plain[36, 100:500])[:, 0].mean() > 60

    def test_an_archive_proves_its_files(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "evidence.zip"
        assert run(config, "get", made[0].event_id, "--sheet", "--archive", file) == 0
        digest, name = capsys.readouterr().out.split()
        assert (digest, name) == (hashlib.sha256(file.read_bytes()).hexdigest(), str(file))
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            sums = dict(line.split("  ")[::-1] for line in archive.read("SHA256SUMS").decode().splitlines())
            assert set(archive.namelist()) == {*sums, "SHA256SUMS"}
            for path, listed in sums.items():
                assert hashlib.sha256(archive.read(path)).hexdigest() == listed
            assert len(sums) == 8
        assert not (tmp_path / "evidence.zip.part").exists()

    def test_an_archive_holds_no_event_of_an_earlier_run(
        self, config: Path, made: list[MadeEvent], tmp_path: Path
    ) -> None:
        file = tmp_path / "e.zip"
        (tmp_path / "objects" / made[0].frames[1].object_key).unlink()
        assert run(config, "get", made[0].event_id, "--archive", file) == 1
        assert run(config, "get", made[1].event_id, "--archive", file) == 0
        with zipfile.ZipFile(file) as archive:
            assert {name.split("/")[0] for name in archive.namelist()} == {"yard", "SHA256SUMS"}

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is full")
    @pytest.mark.parametrize(
        "command",
        [
            "get {event} --json --out {out}",
            "events --since 2h --json",
            "report --day today --text",
            "report --day today --out /dev/stdout",
        ],
    )
    def test_a_full_disk_is_one_line(
        self,
        config: Path,
        made: list[MadeEvent],
        tmp_path: Path,
        command: str,
    ) -> None:
        # In a process of its own, as Python flushes what is left at its exit.
        line = command.format(event=made[1].event_id, out=tmp_path / "out").split()
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "async_motion", line[0], "--config", config, *line[1:]],
                env={k: v for k, v in clean_environment().items() if k != "PYTHONUNBUFFERED"},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert "No space left on device" in done.stderr
        assert done.stderr.startswith("async-motion: ")
        assert done.stderr.count("\n") == 1
        assert done.returncode == 1

    def test_an_archive_says_what_it_lacks(self, config: Path, made: list[MadeEvent], tmp_path: Path) -> None:
        (tmp_path / "objects" / made[0].frames[1].object_key).unlink()
        file = tmp_path / "evidence.zip"
        assert run(config, "get", made[0].event_id, "--archive", file) == 1
        with zipfile.ZipFile(file) as archive:
            assert made[0].frames[1].object_key in archive.read("MISSING.txt").decode()
        assert (tmp_path / "evidence.zip.part").is_dir()

    def test_a_directory_has_no_links(
        self, config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, "get", made[0].event_id, "--links", "24h") == 1
        assert "has no links" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ([], "get: expected the id"),
            (["--since", "2h", "--links", "8d"], "--links: 8d: expected a duration from 1min to 7d"),
            (["--since", "2h", "--links", "1h", "--clip"], "--links: expected without"),
            (["--since", "2h", "--archive", ""], "--archive: .: expected the name of a file"),
            (["--since", "2h", "--archive", "/"], "--archive: /: expected the name of a file"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self, options: list[str], expected: str, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, "get", *options) == 2
        assert capsys.readouterr().err.startswith(expected)

    def test_no_event_is_a_failure(self, config: Path, tmp_path: Path) -> None:
        assert run(config, "get", "--since", "2h", "--out", tmp_path / "out") == 1


class TestDelete:
    def test_first_it_shows_and_changes_nothing(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = names(tmp_path / "objects")
        assert run(config, "delete", "--to", "2h") == 0
        said = capsys.readouterr().out
        assert made[0].event_id in said
        assert made[1].event_id not in said
        assert "would delete: 1 event, 6 frames" in said
        assert names(tmp_path / "objects") == before

    def test_what_is_deleted_is_gone_also_when_a_service_writes_its_index_again(
        self, config: Path, made: list[MadeEvent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, "delete", made[0].event_id, "--yes") == 0
        assert "deleted: 1 event, 6 frames" in capsys.readouterr().out
        assert not (tmp_path / "objects" / made[0].folder).exists()
        fill(tmp_path / "objects", index=made)
        assert run(config, "events", "--json") == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["event_id"] == made[1].event_id
        # A second deletion: the event deleted first stays deleted.
        assert run(config, "delete", made[1].event_id, "--yes") == 0
        capsys.readouterr()
        assert run(config, "events", "--json") == 0
        assert capsys.readouterr().out == ""

    def test_an_ongoing_event_is_not_deleted(
        self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        going = make_event(at=NOW - timedelta(minutes=5), ended=False)
        never_closed = make_event(at=NOW - timedelta(days=3), ended=False)
        fill(tmp_path / "objects", going, never_closed)
        assert run(config, "delete", "--since", "7d", "--yes") == 0
        said = capsys.readouterr()
        assert "deleted: 1 event" in said.out
        assert "1 event not ended, and kept" in said.err
        assert (tmp_path / "objects" / going.folder).exists()
        assert not (tmp_path / "objects" / never_closed.folder).exists()

    def test_a_run_that_was_killed_is_finished_by_the_next(
        self, config: Path, made: list[MadeEvent], tmp_path: Path
    ) -> None:
        for frame in made[0].frames[:4]:
            (tmp_path / "objects" / frame.object_key).unlink()
        assert run(config, "delete", made[0].event_id, "--yes") == 0
        assert not (tmp_path / "objects" / event_key(made[0].folder)).exists()

    def test_nothing_asked_for_is_not_everything(
        self, config: Path, made: list[MadeEvent], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(config, "delete", "--yes") == 2
        assert capsys.readouterr().err.startswith("delete: expected")
        assert run(config, "delete", "20260101T000000000Z-000000", "--yes") == 1
        assert made
