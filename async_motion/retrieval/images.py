"""Images made of stored frames: annotated frames and contact sheets. All functions block.

Text is drawn with OpenCV's built-in fonts, which have only ASCII; all names in a bucket are ASCII.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import cv2
import numpy as np

from async_motion.core.model import FrameInfo, Image
from async_motion.errors import ImageError
from async_motion.jpeg import decode, dimensions, encode
from async_motion.retrieval.model import Event

Polygons = Mapping[str, Sequence[tuple[float, float]]]
"""The zones of a camera by name: corners (x, y) as shares of the image's width and height, 0..1."""

MAX_PIXELS = 100_000_000
"""A JPEG whose header claims more pixels is refused before it is decoded."""
MAX_CELLS = 48
CELL_WIDTH = 320
COLUMNS = 6

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_BOX, _ZONE = (64, 220, 255), (255, 176, 64)  # amber and blue, as BGR
_PAPER, _INK, _FAINT = (24, 22, 20), (235, 235, 235), (160, 160, 160)


def image_of(jpeg: bytes, at_least_width: int | None = None) -> Image:
    """Decode a JPEG to (H, W, 3) BGR uint8, scaled down as far as it stays `at_least_width` wide.

    Raises ImageError.
    """
    width, height = dimensions(jpeg)
    if width * height > MAX_PIXELS:
        raise ImageError(f"an image of {width}x{height} pixels is too large")
    return decode(jpeg, at_least_width)


def jpeg_of(image: Image, quality: int = 90) -> bytes:
    """Return a (H, W, 3) BGR uint8 image as a JPEG of `quality` (1..100). Raises ImageError."""
    return encode(image, quality)[0]


def annotate(image: Image, frame: FrameInfo, zones: Polygons | None = None) -> Image:
    """Return a copy with the frame's boxes, zones, score and local time drawn in.

    The polygons in `zones` are drawn; the names of the frame's zones are written even without them.
    """
    drawn = np.ascontiguousarray(image).copy()
    height, width = drawn.shape[:2]
    line = max(1, round(width / 640))
    for name, corners in (zones or {}).items():
        outline = np.array([(x * width, y * height) for x, y in corners], np.int32)
        cv2.polylines(drawn, [outline], isClosed=True, color=_ZONE, thickness=line, lineType=cv2.LINE_AA)
        _write(drawn, name, tuple(int(side) for side in outline[0]), _scale(width), _ZONE)
    for box in frame.boxes:
        first = int(box.x * width), int(box.y * height)
        last = int((box.x + box.width) * width), int((box.y + box.height) * height)
        cv2.rectangle(drawn, first, last, _BLACK, 3 * line, cv2.LINE_AA)
        cv2.rectangle(drawn, first, last, _BOX, line, cv2.LINE_AA)
    words = [f"{frame.camera}  {_clock(frame.captured_at)}", f"score {frame.score:.1%}"]
    if frame.zones:
        words.append(", ".join(frame.zones))
    step = int(34 * _scale(width))
    for place, text in enumerate(reversed(words)):
        _write(drawn, text, (step // 2, height - step // 2 - place * step), _scale(width), _WHITE)
    return drawn


def sheet(event: Event, frames: Sequence[FrameInfo], read: Callable[[FrameInfo], Image | None]) -> Image:
    """Return a contact sheet: a header with the event's facts, then its frames in order, at most 48.

    `read` returns a frame's image, or None if it cannot be read. Of more frames, the best and evenly spread
    others are shown. The shape is (H, 6 * 320, 3), BGR uint8, or narrower for fewer frames.
    """
    shown = spread(frames, MAX_CELLS, keep=event.best)
    columns = max(2, min(COLUMNS, len(shown)))
    cells = [_cell(frame, read(frame), event) for frame in shown] or [_empty("no frames", 180)]
    rows = []
    for at in range(0, len(cells), columns):
        row = cells[at : at + columns]
        height = max(cell.shape[0] for cell in row)
        row += [_blank(height, CELL_WIDTH)] * (columns - len(row))
        rows.append(np.hstack([_padded(cell, height) for cell in row]))
    return np.vstack([_head(event, len(frames), len(shown), columns * CELL_WIDTH), *rows])


def spread(frames: Sequence[FrameInfo], count: int, keep: int | None = None) -> list[FrameInfo]:
    """Return at most `count` frames, evenly spread and including the one whose `seq` is `keep`."""
    if len(frames) <= count:
        return list(frames)
    places = {round(place * (len(frames) - 1) / (count - 1)) for place in range(count)}
    best = next((place for place, frame in enumerate(frames) if frame.seq == keep), None)
    if best is not None and best not in places:
        places.discard(min(places - {0, len(frames) - 1}, key=lambda place: abs(place - best)))
        places.add(best)
    return [frames[place] for place in sorted(places)]


def used_zones(frames: Collection[FrameInfo], zones: Polygons | None) -> Polygons:
    """Return the polygons of the zones that any of the frames touched."""
    touched = {zone for frame in frames for zone in frame.zones}
    return {name: corners for name, corners in (zones or {}).items() if name in touched}


def _head(event: Event, stored: int, shown: int, width: int) -> Image:
    head = _blank(72, width)
    lasted = event.open_word if event.duration_s is None else f"{event.duration_s:.1f} s"
    count = f"{stored} frames" if shown == stored else f"{shown} of {stored} frames"
    cv2.putText(
        head, f"{event.camera}  {_clock(event.started_at)}", (12, 30), _FONT, 0.75, _INK, 1, cv2.LINE_AA
    )
    facts = [lasted, count, f"peak {event.peak_score:.1%}", ", ".join(event.zones), event.event_id]
    small = 0.5
    text = "   ".join(fact for fact in facts if fact)
    while small > 0.3 and cv2.getTextSize(text, _FONT, small, 1)[0][0] > width - 24:
        small -= 0.05
    cv2.putText(head, text, (12, 56), _FONT, small, _FAINT, 1, cv2.LINE_AA)
    return head


def _cell(frame: FrameInfo, image: Image | None, event: Event) -> Image:
    inner = CELL_WIDTH - 8
    if image is None:
        body = _empty("not readable", 180)[:, : CELL_WIDTH - 8]
    else:
        height = max(1, min(4 * inner, round(image.shape[0] * inner / image.shape[1])))
        body = np.asarray(cv2.resize(image, (inner, height), interpolation=cv2.INTER_AREA), np.uint8)
    is_best = frame.seq == event.best
    cell = _blank(body.shape[0] + 32, CELL_WIDTH)
    cell[4 : 4 + body.shape[0], 4 : 4 + inner] = body
    if is_best:
        cv2.rectangle(cell, (2, 2), (CELL_WIDTH - 3, body.shape[0] + 5), _BOX, 2)
    after = (frame.captured_at - event.started_at).total_seconds()
    text = f"#{frame.seq}  +{after:.1f} s  {frame.score:.1%}{'  best' if is_best else ''}"
    ink = _BOX if is_best else _INK
    cv2.putText(cell, text, (6, body.shape[0] + 23), _FONT, 0.45, ink, 1, cv2.LINE_AA)
    return cell


def _empty(text: str, height: int) -> Image:
    cell = np.full((height, CELL_WIDTH, 3), 48, np.uint8)
    cv2.putText(cell, text, (80, height // 2), _FONT, 0.5, _FAINT, 1, cv2.LINE_AA)
    return cell


def _blank(height: int, width: int) -> Image:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _padded(cell: Image, height: int) -> Image:
    below = height - cell.shape[0]
    return np.vstack([cell, _blank(below, cell.shape[1])]) if below else cell


def _write(image: Image, text: str, at: tuple[int, ...], scale: float, ink: tuple[int, int, int]) -> None:
    """Write on a darkened strip, so that the text is readable on any background."""
    weight = max(1, round(scale * 2))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, weight)
    pad = max(2, height // 4)
    top, bottom = max(0, at[1] - height - pad), max(0, at[1] + below + pad // 2)
    left, right = max(0, at[0] - pad), max(0, at[0] + width + pad)
    strip = image[top:bottom, left:right]
    strip[:] = strip // 3
    cv2.putText(image, text, (at[0], at[1]), _FONT, scale, ink, weight, cv2.LINE_AA)


def _scale(width: int) -> float:
    return max(0.35, width / 1600)


def _clock(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
