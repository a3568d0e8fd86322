"""Contact sheets, annotated frames and clips: decoded again and inspected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest

from async_motion.core.model import FrameInfo, Image
from async_motion.errors import ImageError
from async_motion.retrieval import Event
from async_motion.retrieval.clips import make_clip
from async_motion.retrieval.images import annotate, image_of, sheet, spread, used_zones
from tests.support.bucket import MadeEvent, make_event
from tests.support.still import walking_square

AT = datetime(2026, 11, 22, 7, 31, 12, 345000, tzinfo=UTC)


def made_event(count: int, *, every_s: float = 1.0, width: int = 640, height: int = 360) -> MadeEvent:
    jpegs, boxes = walking_square(count, width, height)
    return make_event(
        at=AT, jpegs=jpegs, boxes=boxes[:1], zones=["drive"], every_s=every_s, size=(width, height)
    )


def event_of(made: MadeEvent) -> Event:
    return Event.of_line("edge1", "porch", made.line)


def reading(made: MadeEvent, broken: int | None = None) -> dict[int, Image]:
    return {
        frame.seq: image_of(made.objects[frame.object_key][0]) for frame in made.frames if frame.seq != broken
    }


class TestAnnotate:
    def test_boxes_and_text_are_drawn_on_a_copy(self) -> None:
        made = made_event(1)
        frame, image = made.frames[0], image_of(made.objects[made.frames[0].object_key][0])
        before = image.copy()
        drawn = annotate(image, frame, {"drive": [(0.5, 0.5), (0.9, 0.5), (0.9, 0.9)]})
        assert np.array_equal(image, before)
        changed = np.any(drawn != before, axis=2)
        box = frame.boxes[0]
        left, top = int(box.x * 640), int(box.y * 360)
        assert changed[top, left : left + 40].all(), "the box's upper side"
        assert changed[280:, :300].any(), "the text below"
        assert changed[180, 330:570].mean() > 0.9, "the zone's upper side"
        assert not changed[100:160, 200:300].any()

    def test_only_touched_zones_are_drawn(self) -> None:
        zones = {"drive": [(0.0, 0.0)], "door": [(0.0, 0.0)]}
        assert list(used_zones(made_event(1).frames, zones)) == ["drive"]
        assert used_zones([], None) == {}

    def test_an_image_that_is_too_large_is_refused_by_its_header(self) -> None:
        """A JPEG of a few bytes can claim four gigapixels."""
        whole = walking_square(1)[0][0]
        at = whole.index(b"\xff\xc0")
        bomb = whole[: at + 5] + b"\xff\xff\xff\xff" + whole[at + 9 :]
        with pytest.raises(ImageError, match="65535x65535 pixels is too large"):
            image_of(bomb)
        with pytest.raises(ImageError):
            image_of(b"no picture")


class TestSheet:
    @pytest.mark.parametrize("count", [0, 1, 2, 7, 48])
    def test_every_frame_has_its_place(self, count: int) -> None:
        made = made_event(count)
        images = reading(made)
        drawn = sheet(event_of(made), made.frames, lambda frame: images[frame.seq])
        columns = max(2, min(6, count))
        assert drawn.shape[1] == columns * 320
        if count >= 2:
            # The square has moved: it is red in each cell, and further right each time.
            first = drawn[72 : 72 + 175, :320].astype(int)
            red = (first[:, :, 2] - first[:, :, 0]) > 80
            assert red.any()
            assert np.nonzero(red.any(axis=0))[0].max() < 120

    def test_of_many_frames_the_best_is_shown(self) -> None:
        made = made_event(200, width=64, height=36)
        shown = spread(made.frames, 48, keep=101)
        assert len(shown) == 48
        assert [shown[0].seq, shown[-1].seq] == [0, 199]
        assert 101 in {frame.seq for frame in shown}
        assert len({frame.seq for frame in shown}) == 48

    def test_a_frame_that_cannot_be_read_leaves_its_place(self) -> None:
        made = made_event(3)
        images = reading(made, broken=1)
        drawn = sheet(event_of(made), made.frames, lambda frame: images.get(frame.seq))
        assert drawn.shape[1] == 3 * 320

    def test_odd_shapes_fit(self) -> None:
        made = made_event(2)
        tall = np.zeros((4000, 10, 3), np.uint8)
        flat = np.zeros((1, 4000, 3), np.uint8)
        drawn = sheet(event_of(made), made.frames, lambda frame: [tall, flat][frame.seq])
        assert drawn.shape[0] < 2000


class TestClip:
    def read_back(self, path: Path) -> tuple[list[float], tuple[int, int], str, str]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = [float(frame.time or 0.0) for frame in container.decode(stream)]
            codec = stream.codec_context
            return times, (codec.width, codec.height), codec.name, str(codec.pix_fmt)

    def test_each_frame_is_at_its_own_time(self, tmp_path: Path) -> None:
        made = made_event(5, every_s=0.7)
        late = made.frames[4]
        frames = [*made.frames[:4], _moved(late, timedelta(seconds=30))]
        images = reading(made)
        assert make_clip(frames, lambda frame: images[frame.seq], tmp_path / "clip.mp4") == 5
        times, size, codec, pixels = self.read_back(tmp_path / "clip.mp4")
        assert times == pytest.approx([0.0, 0.7, 1.4, 2.1, 32.8, 33.8], abs=0.002)
        assert (size, codec, pixels) == ((640, 360), "h264", "yuv420p")
        assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]

    def test_a_browser_can_begin_before_all_of_it_is_there(self, tmp_path: Path) -> None:
        made = made_event(3)
        images = reading(made)
        make_clip(made.frames, lambda frame: images[frame.seq], tmp_path / "clip.mp4")
        data = (tmp_path / "clip.mp4").read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")

    def test_frames_of_one_moment_and_of_other_sizes_are_all_in(self, tmp_path: Path) -> None:
        made = made_event(4)
        frames = [_moved(frame, -timedelta(seconds=frame.seq)) for frame in made.frames]
        images = reading(made)
        images[2] = np.zeros((501, 33, 3), np.uint8)
        assert make_clip(frames, lambda frame: images[frame.seq], tmp_path / "clip.mp4") == 4
        times, size, _, _ = self.read_back(tmp_path / "clip.mp4")
        assert len(times) == 5
        assert times == sorted(set(times))
        assert size == (640, 360)

    def test_odd_and_large_sides_are_made_even_and_smaller(self, tmp_path: Path) -> None:
        made = made_event(2)
        make_clip(made.frames, lambda _: np.zeros((301, 333, 3), np.uint8), tmp_path / "odd.mp4")
        assert self.read_back(tmp_path / "odd.mp4")[1] == (332, 300)
        make_clip(made.frames, lambda _: np.zeros((2160, 3840, 3), np.uint8), tmp_path / "large.mp4")
        assert self.read_back(tmp_path / "large.mp4")[1] == (1920, 1080)

    def test_the_colours_are_those_of_the_frames(self, tmp_path: Path) -> None:
        made = made_event(1)
        make_clip(made.frames, lambda _: np.full((64, 64, 3), (200, 60, 30), np.uint8), tmp_path / "c.mp4")
        with av.open(str(tmp_path / "c.mp4")) as container:
            shown = next(container.decode(video=0)).to_ndarray(format="bgr24")
        assert np.abs(shown.astype(int) - (200, 60, 30)).max() < 8

    @pytest.mark.parametrize("count", [0, 2])
    def test_without_an_image_there_is_no_clip(self, count: int, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no image"):
            make_clip(made_event(count).frames, lambda _: None, tmp_path / "clip.mp4")
        assert list(tmp_path.iterdir()) == []


def _moved(frame: FrameInfo, by: timedelta) -> FrameInfo:

    return replace(frame, captured_at=frame.captured_at + by)


def test_the_square_is_where_its_box_is() -> None:
    (jpeg, *_), (box, *_) = walking_square(2)
    image = image_of(jpeg)
    middle = image[int((box.y + box.height / 2) * 360), int((box.x + box.width / 2) * 640)]
    assert middle[2] > 150
