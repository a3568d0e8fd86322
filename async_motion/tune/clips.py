"""Labelled clips on which settings are tried.

    files, folders ──▶ clips ──┐
    motion/, quiet/            ├──▶ Clip: frames at the detector's working size, times, labels
    a file of labels ──────────┘

A clip is *quiet* (nothing moves in it), *moving* (something moves somewhere in it), or *marked*: its label
gives the times of motion, and the rest is quiet except where it is marked as unsure. It may also mark where a
person who came in stands still; this counts as motion, and is scored separately too. A folder `motion/` or
`quiet/` gives the first two kinds; a file of labels gives any kind, and overrides the folder.

Frames are reduced to the detector's size once and kept in memory while there is room. A clip that does not
fit is read again for each trial. Clips are read as by the service: the same frames at the same rate.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from async_motion.capture import SUFFIXES, CaptureSpec, open_source
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.working_image import LONGEST, halved, quartered
from async_motion.core.model import Luma, Reason
from async_motion.errors import CameraUnavailable, FrameShapeError, UsageError
from async_motion.settings.strict_yaml import read_bounded
from async_motion.tune.scoring import (
    EMPTY,
    Labels,
    Score,
    confirmed,
    event_labels,
    score_frames,
    score_somewhere,
)

END_S = 1.0
"""Seconds by which a mark may lie beyond the clip's end: players round times."""

FORGETS = (Reason.SCENE_CHANGE, Reason.LEARNING)
"""Verdicts at which the tracker clears its window."""

Span = tuple[float, float]
"""From and to, in seconds from the clip's first frame."""


class Kind(Enum):
    """The kind of a clip's label."""

    QUIET = "quiet"
    MOVING = "motion"
    MARKED = "marked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A clip's label. `said_in` is the file or folder that gave it, for error messages."""

    kind: Kind
    events: tuple[Span, ...] = ()
    unsure: tuple[Span, ...] = ()
    standing: tuple[Span, ...] = ()
    """Within `events`."""
    said_in: str = ""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Verdicts on a clip's n frames: `motion`, and `forgets` where the tracker clears its window."""

    motion: list[bool]
    forgets: list[bool]


@dataclass(slots=True, kw_only=True)
class Clip:
    """A clip that was read. `lumas` are the reduced frames; None if they did not fit into memory."""

    path: Path
    label: Label
    fps: float
    """Judged frames a second: the camera's rate, or the clip's if that is lower."""
    times: NDArray[np.float64]
    """(n,) times of the judged frames, in seconds from the first."""
    labels: Labels | None
    """(n,) labels of the judged frames; None: something moves somewhere."""
    spec: CaptureSpec = field(repr=False)
    lumas: list[Luma] | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        return float(self.times[-1]) + 1.0 / self.fps

    @property
    def moves(self) -> bool:
        """Whether the clip contains events."""
        return self.label.kind is not Kind.QUIET and (self.labels is None or bool(self.label.events))

    @property
    def rests(self) -> bool:
        """Whether the clip has empty frames, so that false alarms can be counted."""
        return self.labels is not None and bool((self.labels == EMPTY).any())

    def judge(self, settings: DetectorSettings) -> Verdicts:
        """Return a new detector's verdict on each frame. Blocks; do not call it in an event loop."""
        judge = _Judge(settings)
        if self.lumas is not None:
            for luma, at in zip(self.lumas, self.times, strict=True):
                judge.see(luma, float(at))
        else:
            asyncio.run(self._judge_again(judge))
        return judge.verdicts

    async def _judge_again(self, judge: _Judge) -> None:
        async for luma, at in _read(self.spec):
            judge.see(luma, at)

    def score(self, verdicts: Verdicts, confirm: tuple[int, int]) -> Score:
        """Score verdicts against the label. Alarms are confirmed as by the tracker, M of N (`confirm`)."""
        alarms = confirmed(verdicts.motion, verdicts.forgets, confirm)
        if self.labels is None:
            return score_somewhere(verdicts.motion, self.fps, alarms=alarms)
        standing = _frames(self.label.standing, self.times)
        return score_frames(verdicts.motion, self.labels, self.fps, alarms=alarms, standing=standing)


class _Judge:
    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings
        self._detector = Detector(settings)
        self.verdicts = Verdicts([], [])

    def see(self, luma: Luma, at: float) -> None:
        try:
            detection = self._detector.update(luma, at)
        except FrameShapeError:  # the frame size has changed: a new detector, as in the service
            self._detector = Detector(self._settings)
            detection = self._detector.update(luma, at)
        self.verdicts.motion.append(detection.motion)
        self.verdicts.forgets.append(detection.reason in FORGETS)


class ClipMemory:
    """A budget in bytes for reduced frames. `left` is what remains."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def take(self, size: int) -> bool:
        """Take `size` bytes; return whether there was room for them."""
        if size > self.left:
            return False
        self.left -= size
        return True


def read_clip(path: Path, label: Label, *, fps: float, memory: ClipMemory) -> Clip:
    """Read a clip like a camera with `fps` judged frames a second. Blocks; do not call it in an event loop.

    Raises UsageError if the clip cannot be read, or its label does not fit it.
    """
    spec = CaptureSpec(camera=path.name, source=str(path.absolute()), fps=fps, speed="max", loop=False)
    try:
        times, kept = asyncio.run(_read_all(spec, memory))
    except CameraUnavailable as exc:
        raise UsageError(str(exc)) from exc
    if len(times) < 2 or times[-1] <= times[0]:
        raise UsageError(f"{path}: holds {len(times)} image(s), expected a clip of some seconds")
    at_s = np.asarray(times)
    # A clip with a lower rate than `fps` yields all its frames.
    own_fps = min(fps, (len(times) - 1) / (times[-1] - times[0]))
    return Clip(
        path=path,
        label=label,
        fps=own_fps,
        times=at_s,
        labels=_labels(path, label, at_s, own_fps),
        spec=spec,
        lumas=kept,
    )


async def _read_all(spec: CaptureSpec, memory: ClipMemory) -> tuple[list[float], list[Luma] | None]:
    """Return the times (s) and the reduced frames; None for the frames if they exceed the memory."""
    times: list[float] = []
    kept: list[Luma] | None = []
    before = memory.left
    async for luma, at in _read(spec):
        times.append(at)
        if kept is not None:
            if memory.take(luma.nbytes):
                kept.append(luma)
            else:
                kept, memory.left = None, before
    return times, kept


async def _read(spec: CaptureSpec) -> AsyncIterator[tuple[Luma, float]]:
    """Yield each reduced frame and its time in seconds from the first. Raises CameraUnavailable."""
    source = open_source(spec)
    first: float | None = None
    try:
        async with aclosing(source.frames()) as frames:
            async for frame in frames:
                if first is None:
                    first = frame.monotonic
                yield reduced(frame.luma), frame.monotonic - first
    finally:
        await source.aclose()


def reduced(luma: Luma) -> Luma:
    """Return `luma` (H, W) reduced to the detector's working size; a copy, never a view.

    The detector's result is the same: these are the steps of `working_image` that it skips for a frame of
    that size.
    """
    small = quartered(luma) if max(luma.shape) > 4 * LONGEST and min(luma.shape) >= 8 else luma
    while max(small.shape) > LONGEST and min(small.shape) >= 2:
        small = halved(small)
    return small.copy() if small is luma else small


def _labels(path: Path, label: Label, times: NDArray[np.float64], fps: float) -> Labels | None:
    """Return the label of each frame (n,); None if the times of motion are unknown. Raises UsageError."""
    if label.kind is Kind.MOVING:
        return None
    length = float(times[-1]) + 1.0 / fps
    for name, spans in (("event", label.events), ("unsure", label.unsure), ("standing", label.standing)):
        for begin, end in spans:
            if begin >= length or end > length + END_S:
                raise UsageError(
                    f"{label.said_in}: {path.name}: {name} {begin:g} to {end:g} s is outside the clip, "
                    f"expected 0 to {length:.1f} s"
                )
    return event_labels(len(times), _frames(label.events, times), unscored=_frames(label.unsure, times))


def _frames(spans: Iterable[Span], times: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the first and last frame of each span; for a span without one, the frame nearest its start."""
    found = []
    for begin, end in spans:
        first = int(np.searchsorted(times, begin - 1e-6))
        last = int(np.searchsorted(times, end + 1e-6)) - 1
        nearest = int(np.argmin(np.abs(times - begin)))
        found.append((first, last) if first <= last else (nearest, nearest))
    return found


# ---- finding clips and their labels ----


def find_clips(files: Sequence[Path]) -> list[tuple[Path, Kind | None]]:
    """Return the clips among `files` and in the folders among them, with the labels of their folders.

    Raises UsageError for a missing file, and for a folder without clips.
    """
    found: dict[Path, Kind | None] = {}
    for given in files:
        if given.is_dir():
            clips = sorted(path for path in given.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not clips:
                raise UsageError(f"{given}: holds no clip, expected files such as .mp4 or .mkv")
            # Only folders from the given one down give labels: for /srv/motion/porch, motion/ does not.
            above = given.absolute().name
            for path in clips:
                found[path] = _said_by_folders((above, *path.relative_to(given).parts[:-1]))
        elif given.exists():
            found[given] = _said_by_folders((given.absolute().parent.name,))
        else:
            raise UsageError(f"{given}: no such file")
    return list(found.items())


def _said_by_folders(names: Sequence[str]) -> Kind | None:
    """Return the label of the innermost folder that has one. `names` are ordered from the outside in."""
    kinds = {"motion": Kind.MOVING, "quiet": Kind.QUIET}
    return next((kinds[name.lower()] for name in reversed(names) if name.lower() in kinds), None)


def label_clips(
    clips: Sequence[tuple[Path, Kind | None]], labels: Mapping[str, Label], file: Path | None
) -> tuple[list[tuple[Path, Label]], list[str]]:
    """Return each clip with its label, and the names in the file of labels that match no clip.

    A name matches the clip whose path ends in it; the file overrides the folders. Raises UsageError for clips
    without a label, and for names that match several clips.
    """
    labelled: dict[Path, Label] = {}
    unused = []
    for name, label in labels.items():
        wanted = Path(name).parts
        same = [path for path, _ in clips if path.absolute().parts[-len(wanted) :] == wanted]
        if len(same) > 1:
            raise UsageError(f"{file}: {name}: matches {len(same)} clips, expected more of its path")
        if same:
            labelled[same[0]] = label
        else:
            unused.append(name)
    for path, kind in clips:
        if path not in labelled and kind is not None:
            labelled[path] = Label(kind=kind, said_in=f"{path.parent}/")
    without = [path for path, _ in clips if path not in labelled]
    if without:
        raise UsageError(
            *(
                f"{path}: has no label, expected it in a folder motion/ or quiet/, or in the --labels file"
                for path in without
            )
        )
    return [(path, labelled[path]) for path, _ in clips], unused


def read_labels(path: Path) -> dict[str, Label]:
    """Read a file of labels, by clip. The suffix decides: .csv, .json, else YAML.

    Raises UsageError with every problem.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read ({exc.strerror}), expected a file of labels") from exc
    return parse_labels(path, content)


def parse_labels(path: Path, content: bytes) -> dict[str, Label]:
    """Parse the content of the file of labels at `path`; otherwise as `read_labels`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not text, expected a file of labels in YAML, JSON or CSV") from None
    if path.suffix.lower() == ".csv":
        return _from_csv(path, text)
    try:
        data = json.loads(text) if path.suffix.lower() == ".json" else read_bounded(yaml.SafeLoader, text)
    except json.JSONDecodeError as exc:
        raise UsageError(f"{path}:{exc.lineno}: broken JSON: {exc.msg}") from None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise UsageError(f"{where}: broken YAML: {getattr(exc, 'problem', None) or 'no text'}") from None
    # No such date, too many digits, a tag that does not fit, nested too deeply.
    except (ValueError, LookupError, AttributeError, RecursionError):
        raise UsageError(
            f"{path}: cannot be read, expected lines such as `porch.mp4: [[12.5, 18]]`"
        ) from None
    if not isinstance(data, Mapping) or not data:
        raise UsageError(f"{path}: labels no clip, expected lines such as `porch.mp4: [[12.5, 18]]`")
    labels = {}
    problems = []
    for name, value in data.items():
        try:
            labels[str(name)] = _label(value, str(path))
        except ValueError as exc:
            problems.append(f"{path}: {name}: {exc}")
    if problems:
        raise UsageError(*problems)
    return labels


def _label(value: Any, said_in: str) -> Label:
    """Return the label that `value` means. Raises ValueError."""
    if value in ("quiet", "motion"):
        return Label(kind=Kind(value), said_in=said_in)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = {"events": value}
    if not isinstance(value, Mapping) or not value or set(value) - {"events", "unsure", "standing"}:
        raise ValueError(
            "cannot be read, expected quiet, motion, [[from, to], …] or {events: …, unsure: …, standing: …}"
        )
    events, unsure, standing = (_spans(value.get(name)) for name in ("events", "unsure", "standing"))
    return _marked(events, unsure, standing, said_in)


def _marked(
    events: tuple[Span, ...], unsure: tuple[Span, ...], standing: tuple[Span, ...], said_in: str
) -> Label:
    """Return a label by marks. Raises ValueError where a person stands outside of all events."""
    for begin, end in standing:
        if not any(first <= begin and end <= last for first, last in events):
            raise ValueError(f"standing {begin:g} to {end:g} s is outside the events, expected within one")
    return Label(kind=Kind.MARKED, events=events, unsure=unsure, standing=standing, said_in=said_in)


def _spans(value: Any) -> tuple[Span, ...]:
    if value is None:
        return ()
    pairs = isinstance(value, Sequence) and not isinstance(value, str)
    if not pairs or not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in value):
        raise ValueError("cannot be read, expected a list of [from, to] in seconds or m:ss")
    return tuple(_span(begin, end) for begin, end in value)


def _span(begin: Any, end: Any) -> Span:
    span = _seconds(begin), _seconds(end)
    if span[0] > span[1]:
        raise ValueError(f"from {begin} to {end}: ends before it begins")
    return span


_TIME = re.compile(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)\s*s?\s*", re.ASCII)


def _seconds(value: Any) -> float:
    """Return a time in seconds: a number, or text such as ``12.5``, ``12.5s``, ``1:02.5``, ``1:00:02``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a time in the clip, expected seconds or m:ss")
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3])


def _from_csv(path: Path, text: str) -> dict[str, Label]:
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    if not {"clip", "start", "end"} <= set(columns):
        raise UsageError(f"{path}:1: expected a first line `clip,start,end` or `clip,start,end,label`")
    marks: defaultdict[str, _Marks] = defaultdict(_Marks)
    problems = []
    for row in rows:
        where = f"{path}:{rows.line_num}"
        name = (row["clip"] or "").strip()
        begin, end = (row["start"] or "").strip(), (row["end"] or "").strip()
        try:
            if not name:
                raise ValueError("names no clip")
            marks[name].add(begin, end, (row.get("label") or "").strip().lower())
        except ValueError as exc:
            problems.append(f"{where}: {name}: {exc}" if name else f"{where}: {exc}")
    labels = {}
    for name, its in marks.items():
        try:
            labels[name] = its.label(str(path))
        except ValueError as exc:
            problems.append(f"{path}: {name}: {exc}")
    if problems:
        raise UsageError(*problems)
    return labels


@dataclass(slots=True)
class _Marks:
    """What the rows of a CSV file say about one clip: times, or `whole`, a label of all of it."""

    events: list[Span] = field(default_factory=list)
    unsure: list[Span] = field(default_factory=list)
    standing: list[Span] = field(default_factory=list)
    whole: set[Kind] = field(default_factory=set)

    def add(self, begin: str, end: str, label: str) -> None:
        """Add a row. Raises ValueError."""
        if not begin and not end:
            if label not in ("quiet", "motion"):
                raise ValueError("expected times, or label quiet or motion for the whole clip")
            self.whole.add(Kind(label))
        elif label in ("", "motion"):
            self.events.append(_span(begin, end))
        elif label == "unsure":
            self.unsure.append(_span(begin, end))
        elif label == "standing":
            self.standing.append(_span(begin, end))
        else:
            raise ValueError(f"label {label!r} is not known, expected motion, standing or unsure with times")
        if len(self.whole) + bool(self.events) > 1:
            raise ValueError("has two labels, expected quiet, motion or times")

    def label(self, said_in: str) -> Label:
        """Return the label that the rows make. Raises ValueError."""
        marked = _marked(tuple(self.events), tuple(self.unsure), tuple(self.standing), said_in)
        return replace(marked, kind=next(iter(self.whole), Kind.MARKED))
