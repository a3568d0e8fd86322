from __future__ import annotations

import os
from datetime import UTC
from pathlib import Path

import pytest

from async_motion.errors import UsageError
from async_motion.scan import find_recordings
from tests.unit.scan.kit import START, settings_in


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("porch/20260301_120000.mp4", "yard/b.MKV", "yard/notes.txt", "yard/.hidden/x.avi"):
        path = tmp_path / "rec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "rec"


async def test_a_folder_gives_its_videos_sorted_each_once(tree: Path) -> None:
    given = [str(tree / "yard"), str(tree), str(tree / "yard/b.MKV")]
    found = await find_recordings(given, settings_in(tree), zone=UTC)
    assert [Path(each.place).name for each in found] == ["20260301_120000.mp4", "x.avi", "b.MKV"]
    assert [each.camera for each in found] == ["porch", "hidden", "yard"]
    assert (found[0].started_at, found[0].start_source) == (START, "name")
    assert (found[1].started_at, found[1].start_source) == (None, None)
    assert found[0].size == 5
    assert len({each.digest for each in found}) == 3


async def test_a_name_that_is_not_utf_8_can_be_printed(tree: Path) -> None:
    odd = tree / "yard" / os.fsdecode(b"\xff.mp4")
    odd.write_bytes(b"1")
    (found,) = await find_recordings([str(odd)], settings_in(tree))
    assert found.name.isprintable()
    assert found.name.endswith("\\udcff.mp4")
    assert found.digest


async def test_the_options_go_before_the_path(tree: Path) -> None:
    (found,) = await find_recordings(
        [str(tree / "yard/b.MKV")], settings_in(tree), camera="gate", start=START
    )
    assert (found.camera, found.started_at, found.start_source) == ("gate", START, "option")


async def test_every_problem_is_told_at_once(tree: Path) -> None:
    (tree / "empty").mkdir()
    given = [str(tree / "missing.mp4"), str(tree / "empty"), "s3://bucket/x", str(tree)]
    with pytest.raises(UsageError) as caught:
        await find_recordings(given, settings_in(tree), start=START)
    missing, empty, bucket, start = caught.value.problems
    assert "no such file" in missing
    assert "holds no recording" in empty
    assert "expected minio.endpoint" in bucket
    assert "--start: 3 recordings, expected one" in start
