"""What is scanned, how, and the outcome: plain values, sent between processes and machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from async_motion.core.index import event_started, thin_scores
from async_motion.core.model import FrameInfo, MotionEvent
from async_motion.core.names import event_folder, is_name
from async_motion.core.options import DECODER_THREADS, Decode
from async_motion.core.payloads import iso
from async_motion.settings import Settings

StartSource = Literal["option", "name", "container", "modified"]
"""The source of the time of a recording's first frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One file, or one object of a bucket.

    `place` is an absolute path or an `s3://` URL, and identifies the recording. `name` is as the user wrote
    it. `size` is in bytes. `started_at` (UTC) is None if the path holds no time; the container may hold one.
    """

    place: str
    name: str
    size: int
    camera: str
    started_at: datetime | None = None
    start_source: StartSource | None = None

    @property
    def is_remote(self) -> bool:
        """Whether the recording must be fetched first."""
        return self.place.startswith("s3://")

    @property
    def digest(self) -> str:
        """The name of the recording's marker in the ledger: 32 hex digits."""
        return hashlib.sha256(self.place.encode(errors="surrogateescape")).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSpec:
    """How recordings of one camera are scanned, and which outputs are made.

    `settings` hold that camera alone, and no secret that the scan does not need. `decode` and `threads` are
    the decoder's. `store`: store events as if they had been live. `out` is the folder for `stills`
    (annotated) and `video` (a clip with overlays for each event).
    """

    settings: Settings = field(repr=False)
    camera: str
    decode: Decode
    threads: int = DECODER_THREADS
    store: bool = False
    out: Path | None = None
    stills: bool = False
    video: bool = False
    fingerprint: str = ""
    """A digest of all settings that the results depend on."""

    @property
    def makes(self) -> tuple[str, ...]:
        """The outputs to make besides the results, sorted."""
        made = {"stills": self.stills, "store": self.store, "video": self.video}
        return tuple(name for name, wanted in made.items() if wanted)

    @property
    def needs_jpegs(self) -> bool:
        """Whether frames must be encoded. For the events alone, the luma is enough."""
        return self.store or self.stills


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTask:
    """One recording and how it is scanned. `known` is the outcome of an earlier scan, to be replaced."""

    recording: Recording
    spec: ScanSpec
    known: ScanOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOutcome:
    """The outcome of one recording.

    `events` are the events as JSON values (see `event_line`), `lines` their lines of the index. `seconds` of
    video were read, `frames` judged, `damaged` frames skipped. `problem`: why the recording could not be read
    to its end. `stops`: the cause is not the recording, so the scan must stop. `remembered`: from the ledger.
    """

    recording: Recording
    events: tuple[Mapping[str, Any], ...] = ()
    lines: tuple[str, ...] = ()
    seconds: float = 0.0
    frames: int = 0
    damaged: int = 0
    problem: str | None = None
    stops: bool = False
    remembered: bool = False

    def payload(self) -> dict[str, Any]:
        """Return the values that the ledger keeps."""
        return {
            "events": list(self.events),
            "lines": list(self.lines),
            "seconds": self.seconds,
            "frames": self.frames,
            "damaged": self.damaged,
        }

    @classmethod
    def of_payload(cls, recording: Recording, payload: Mapping[str, Any]) -> ScanOutcome:
        """Parse what `payload` returned. Raises KeyError, TypeError, ValueError.

        The names in it must be valid: what an earlier scan has made is removed by them.
        """
        return cls(
            recording=recording,
            events=tuple(_checked(dict(event), recording.camera) for event in payload["events"]),
            lines=tuple(str(line) for line in payload["lines"]),
            seconds=float(payload["seconds"]),
            frames=int(payload["frames"]),
            damaged=int(payload["damaged"]),
            remembered=True,
        )


def _checked(event: dict[str, Any], camera: str) -> dict[str, Any]:
    """Return an event of a payload if its id, its camera and its stills can be its own."""
    event_started(event["event_id"])
    if event["camera"] != camera or not is_name(camera):
        raise ValueError(f"camera: expected {camera}")
    if not all(type(still["seq"]) is int and 0 <= still["seq"] < 10**9 for still in event["stills"]):
        raise ValueError("stills: expected their numbers")
    return event


def event_line(
    event: MotionEvent, stills: Sequence[FrameInfo], *, started_at: datetime, source: str
) -> dict[str, Any]:
    """Return an ended event as JSON values.

    `started_at` is the recording's; `begin_s` and `end_s` are seconds from its first frame. `frames` counts
    the stills that the camera's settings keep.
    """
    assert event.ended_at is not None
    begin_s = (event.started_at - started_at).total_seconds()
    length_s = max(0.0, (event.ended_at - event.started_at).total_seconds())
    best = max(stills, key=lambda still: (still.score, -still.seq), default=None)
    return {
        "camera": event.camera,
        "event_id": event.event_id,
        "started_at": iso(event.started_at),
        "ended_at": iso(event.ended_at),
        "time_from": source,
        "duration_s": round(length_s, 3),
        "begin_s": round(begin_s, 3),
        "end_s": round(begin_s + length_s, 3),
        "reason": event.end_reason.value if event.end_reason else None,
        "peak_score": round(event.peak_score, 6),
        "zones": list(event.zones),
        "frames": len(stills),
        "best": None if best is None else best.seq,
        "scores": list(thin_scores([still.score for still in stills])),
        "stills": [_still(still, started_at) for still in stills],
    }


def _still(still: FrameInfo, started_at: datetime) -> dict[str, Any]:
    return {
        "seq": still.seq,
        "captured_at": iso(still.captured_at),
        "at_s": round((still.captured_at - started_at).total_seconds(), 3),
        "score": round(still.score, 6),
        "boxes": [[round(side, 4) for side in box] for box in still.boxes],
        "zones": list(still.zones),
    }


def folder_of(spec: ScanSpec, event: Mapping[str, Any]) -> str:
    """Return the key prefix of an event's objects."""
    settings = spec.settings
    return event_folder(settings.minio.prefix, settings.instance, event["camera"], event["event_id"])


def digest_of(values: object) -> str:
    """Return a digest of plain values (16 hex digits), the same in every process."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()[:16]
