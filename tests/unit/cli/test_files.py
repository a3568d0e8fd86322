"""Files appear whole or not at all."""

from __future__ import annotations

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
