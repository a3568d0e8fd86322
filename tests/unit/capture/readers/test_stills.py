"""A folder of still images as a camera."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from async_motion.capture import CaptureSpec, open_source
from async_motion.capture.display import Display, by_exif
from async_motion.errors import CameraRefused
from tests.support.capture import read
from tests.support.exif import exif, png_with_exif, webp_with_exif
from tests.support.video import ground


def write(folder: Path, name: str, grey: int, size: tuple[int, int] = (64, 48)) -> None:
    image = np.full((size[1], size[0], 3), grey, np.uint8)
    assert cv2.imwrite(str(folder / name), image)


def spec(folder: Path, **changes: Any) -> CaptureSpec:
    return CaptureSpec(
        camera="porch", source=str(folder), **{"speed": "max", "loop": False, "fps": 10.0, **changes}
    )


def test_images_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, grey in (("c.png", 90), ("a.jpg", 30), ("b.bmp", 60), ("d.webp", 120)):
        write(tmp_path, name, grey)
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = read(open_source(spec(tmp_path)))
    assert [float(frame.bgr().mean()) for frame in frames] == pytest.approx([30, 60, 90, 120], abs=3)
    gaps = [after.monotonic - before.monotonic for before, after in pairwise(frames)]
    assert gaps == pytest.approx([0.1] * 3)
    assert all(frame.luma.shape == (48, 64) for frame in frames)


def test_real_speed_takes_real_time(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path, f"{number}.jpg", 100)
    started = time.monotonic()
    assert read(open_source(spec(tmp_path, speed="real")))
    assert time.monotonic() - started >= 0.39


def test_a_new_round_sees_new_images(tmp_path: Path) -> None:
    write(tmp_path, "0.jpg", 50)
    source = open_source(spec(tmp_path, loop=True))
    write(tmp_path, "1.jpg", 100)
    assert len(read(source, 7)) == 7


def test_what_cannot_be_read_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "0.jpg", 50)
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    (tmp_path / "2.png").write_bytes(b"")
    write(tmp_path, "3.jpg", 50, size=(640, 480))
    write(tmp_path, "4.jpg", 50, size=(32, 24))
    source = open_source(spec(tmp_path, max_pixels=64 * 48))
    with caplog.at_level(logging.WARNING):
        frames = read(source)
    assert [frame.luma.shape for frame in frames] == [(48, 64), (24, 32)]
    assert source.counters.corrupt == 3
    assert all(f"{number}." in caplog.text for number in (1, 2, 3))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Each reader would hang in it, and the camera would soon have no thread left."""
    os.mkfifo(tmp_path / "0.jpg")
    write(tmp_path, "1.jpg", 50)
    source = open_source(spec(tmp_path))
    assert len(read(source)) == 1
    assert source.counters.corrupt == 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraRefused, match="holds no image"):
        read(open_source(spec(tmp_path, loop=True)))


def test_a_folder_that_goes_away_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    write(folder, "0.jpg", 50)
    source = open_source(spec(folder))
    (folder / "0.jpg").unlink()
    folder.rmdir()
    with pytest.raises(CameraRefused):
        read(source)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_still_is_shown_as_its_exif_says(tmp_path: Path, orientation: int) -> None:
    image = np.full((48, 64, 3), 90, np.uint8)
    image[:16, :16] = 250
    data = cv2.imencode(".jpg", image)[1].tobytes()
    head = exif(orientation)
    (tmp_path / "a.jpg").write_bytes(head[: -len(b"\xff\xdb\x00\x02")] + data[2:])
    (tmp_path / "b.png").write_bytes(png_with_exif(cv2.imencode(".png", image)[1].tobytes(), orientation))
    webp = cv2.imencode(".webp", image)[1].tobytes()
    (tmp_path / "c.webp").write_bytes(webp_with_exif(webp, orientation, size=(64, 48)))
    frames = read(open_source(spec(tmp_path)))
    assert len(frames) == 3
    seen = Display(*by_exif(head)).luma(image[..., 0])
    for frame in frames:
        assert frame.luma.shape == seen.shape
        assert np.abs(frame.bgr()[..., 0].astype(int) - seen).mean() < 4
        dark = np.unravel_index(np.argmax(cv2.blur(frame.luma, (9, 9))), frame.luma.shape)
        assert seen[dark] == 250


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:600] + data[-400:]]
)
def test_a_damaged_still_is_skipped(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    data = cv2.imencode(".jpg", ground(320, 240))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(damage(data))
    (tmp_path / "b.jpg").write_bytes(data)
    source = open_source(spec(tmp_path))
    assert len(read(source)) == 1
    assert source.counters.corrupt == 1
