"""Files appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from async_motion.cli.files import write_whole
from async_motion.errors import AsyncMotionError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_whole(target, b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["gone/report.html", "taken"])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(AsyncMotionError, match=rf"{name}: (No such file|Is a directory)"):
        write_whole(tmp_path / name, b"x")
    assert list(tmp_path.rglob("*")) == [tmp_path / "taken"]


def test_the_root_is_no_file() -> None:
    with pytest.raises(AsyncMotionError, match="/: Is a directory"):
        write_whole(Path("/"), b"x")


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    kept, link, pipe = tmp_path / "kept.html", tmp_path / "report.html", tmp_path / "pipe"
    link.symlink_to(kept)
    write_whole(link, b"one")
    assert link.is_symlink()
    assert kept.read_bytes() == b"one"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"two")
        assert os.read(reader, 10) == b"two"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
