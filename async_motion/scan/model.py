"""What is scanned, how, and what came of it: plain values that travel between processes and machines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from async_motion.core.index import thin_scores
from async_motion.core.model import FrameInfo, MotionEvent
from async_motion.core.names import event_folder
from async_motion.core.options import Decode
from async_motion.core.payloads import iso
from async_motion.settings import Settings

StartSource = Literal["option", "name", "container", "modified"]
"""Where the time of a recording's first frame comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One file, or one object of a bucket.

    `place` is an absolute path, or an `s3://` URL; it tells recordings apart. `name` is how people wrote it.
    `started_at` is None where the path does not say it: then the container may.
    """

    place: str
    name: str
    size: int
    camera: str
    started_at: datetime | None = None
    start_source: StartSource | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it must be fetched first."""
        return self.place.startswith("s3://")

    @property
    def digest(self) -> str:
        """The name of its marker in the ledger."""
        return hashlib.sha256(self.place.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSpec:
    """How recordings of one camera are scanned, and what is made of them.

    `settings` hold that camera, and no secret that the scan does not need. `decode` and `threads` are the
    decoder's. `store`: into the settings' store, as if it had been live. `out` is the folder for `stills`
    (annotated) and `video` (a clip with overlays for each event).
    """

    settings: Settings = field(repr=False)
    camera: str
    decode: Decode
    threads: int = 1
    store: bool = False
    out: Path | None = None
    stills: bool = False
    video: bool = False
    fingerprint: str = ""
    """What the results depend on, digested."""

    @property
    def makes(self) -> tuple[str, ...]:
        """What is made beside the results, sorted."""
        made = {"stills": self.stills, "store": self.store, "video": self.video}
        return tuple(name for name, wanted in made.items() if wanted)

    @property
    def needs_pictures(self) -> bool:
        """Whether frames must be encoded: for the events alone, the luma is enough."""
        return self.store or self.stills


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTask:
    """One recording and how it is scanned. `known` is what an earlier scan made of it, now to be replaced."""

    recording: Recording
    spec: ScanSpec
    known: ScanOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOutcome:
    """What came of one recording.

    `events` are as JSON shows them, `lines` the events' lines of the index. `seconds` of video were read,
    `frames` judged, `damaged` ones left out. `problem` says why it could not be read (to its end); with
    `stops` it is no fault of the recording: the scan must stop. `remembered`: from the ledger.
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
        """Return what the ledger keeps."""
        return {
            "events": list(self.events),
            "lines": list(self.lines),
            "seconds": self.seconds,
            "frames": self.frames,
            "damaged": self.damaged,
        }

    @classmethod
    def of_payload(cls, recording: Recording, said: Mapping[str, Any]) -> ScanOutcome:
        """Return what `payload` made. Raises KeyError, TypeError, ValueError."""
        return cls(
            recording=recording,
            events=tuple(dict(event) for event in said["events"]),
            lines=tuple(str(line) for line in said["lines"]),
            seconds=float(said["seconds"]),
            frames=int(said["frames"]),
            damaged=int(said["damaged"]),
            remembered=True,
        )


def event_line(
    event: MotionEvent, stills: Sequence[FrameInfo], *, started_at: datetime, source: str
) -> dict[str, Any]:
    """Return an event that has ended as JSON shows it.

    `started_at` is the recording's; `begin_s` and `end_s` are seconds from its first frame. `frames` are the
    stills that the camera's settings keep.
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
    """Return the beginning of the object keys of an event."""
    settings = spec.settings
    return event_folder(settings.minio.prefix, settings.instance, event["camera"], event["event_id"])


def digest_of(values: object) -> str:
    """Return a short digest of plain values, the same in every process."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode()).hexdigest()[:16]
