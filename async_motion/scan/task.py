"""Turn one recording into one outcome: the service's camera unit, fed from a file on the file's clock.

    file ──▶ CameraSource ──▶ CameraUnit (detector, tracker, selection, encoder) ──▶ ScanOutbox ──▶ sinks

The same file and settings give the same outcome, bit for bit, in every process and on every machine:

- Both clocks are the recording's: frame 0 is at `started_at`.
- The random part of an event's id is a digest of camera, file name and the event's number instead.
- `decode: auto` uses its own evidence alone. The detector's verdicts would reach the reader at times that
  depend on thread scheduling.
- A file waits for its consumer: no frame is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from async_motion.app.buckets import build_bucket
from async_motion.app.specs import capture_spec
from async_motion.app.units import build_unit
from async_motion.capture import CameraSource, CaptureSpec, ContainerFacts, open_source, read_facts
from async_motion.core.backoff import Backoff
from async_motion.core.model import Detection, Frame, Image, MotionEvent, SceneChange
from async_motion.errors import (
    AsyncMotionError,
    CameraUnavailable,
    RecordRejected,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from async_motion.retrieval.images import Polygons
from async_motion.scan.ledger import ScanLedger, ledger_of, replace_known
from async_motion.scan.model import (
    Recording,
    ScanOutcome,
    ScanSpec,
    ScanTask,
    StartSource,
    event_line,
)
from async_motion.scan.overlay import OverlayNotes, write_overlays
from async_motion.scan.sinks import MAX_TRIES, ScanOutbox, Sink, StillsSink, StoreSink

if TYPE_CHECKING:
    from async_motion.app.buckets import AnyReader

log = logging.getLogger(__name__)

OnShare = Callable[[float], None]
"""Called in the event loop with the share of the recording that is done, 0..1. Must return at once."""

SETTLE_S = 3600.0
"""Seconds that encoder and store may take at the end of a file: a slow store must lose no still."""

ON_LINUX = sys.platform == "linux"
NO_TIME = "neither its name nor its container holds a time: give it with --start"


async def scan_recording(task: ScanTask, on_share: OnShare = lambda _share: None) -> ScanOutcome:
    """Scan one recording, and record it in the ledger if there is one. Expected errors are not raised.

    They are the outcome's `problem`; with `stops` the cause is the store or the disk, not the recording.
    """
    spec = task.spec
    try:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(_store(spec)) if spec.store else None
            ledger = await stack.enter_async_context(ledger_of(spec))
            path = await stack.enter_async_context(_local(task.recording, spec))
            outcome = await _scan(task, path, store, on_share)
            if ledger is not None and outcome.problem is None:
                await _note(ledger, task, outcome, store)
            return outcome
    except CameraUnavailable as exc:
        return ScanOutcome(recording=task.recording, problem=_words(exc, task.recording))
    except (StoreUnavailable, RecordRejected) as exc:
        return ScanOutcome(recording=task.recording, problem=str(exc), stops=True)
    except OSError as exc:
        return ScanOutcome(recording=task.recording, problem=f"{exc.filename}: {exc.strerror}", stops=True)
    except AsyncMotionError as exc:
        return ScanOutcome(recording=task.recording, problem=str(exc))


async def _note(ledger: ScanLedger, task: ScanTask, outcome: ScanOutcome, store: AnyReader | None) -> None:
    """Remove stale outputs, then write the marker: last, as it states that all else is written."""
    if task.known is not None:
        await replace_known(task.known, outcome, task.spec, store)
    await ledger.note(outcome, task.spec, known=task.known)


async def _scan(task: ScanTask, path: str, store: AnyReader | None, on_share: OnShare) -> ScanOutcome:
    """Scan a local file."""
    recording, spec = task.recording, task.spec
    facts = await asyncio.to_thread(read_facts, path)
    begin = _begin(recording, facts, path)
    if begin is None or (spec.store and begin[1] == "modified"):
        return ScanOutcome(recording=recording, problem=NO_TIME)
    started_at, source = begin
    read = _capture_spec(spec, path, started_at)
    zones: Polygons = {
        name: zone.polygon for name, zone in spec.settings.cameras[spec.camera].detect.zones.items()
    }
    stored = None if store is None else StoreSink(store, prefix=spec.settings.minio.prefix)
    sinks: list[Sink] = [] if stored is None else [stored]
    if spec.stills and spec.out is not None:
        sinks.append(StillsSink(spec.out, zones))
    outbox = ScanOutbox(sinks)
    notes = OverlayNotes() if spec.video else None
    counts = _Counts(facts.seconds, on_share)
    async with aclosing(open_source(read)) as capture:
        try:
            problem = await _watch(task, capture, outbox, counts, notes)
        finally:
            if stored is not None:
                await stored.aclose()
        damaged = capture.counters.corrupt
    if spec.video and spec.out is not None and notes is not None:
        events = [event for event, _ in outbox.events]
        await write_overlays(read, events, notes, zones=zones, out=spec.out)
    return ScanOutcome(
        recording=replace(recording, started_at=started_at, start_source=source),
        events=tuple(
            event_line(event, stills, started_at=started_at, source=source) for event, stills in outbox.events
        ),
        lines=() if stored is None else tuple(stored.index_lines),
        seconds=round(max(counts.newest, facts.seconds or 0.0), 3),
        frames=counts.frames,
        damaged=damaged + counts.lost,
        problem=problem,
    )


def _capture_spec(spec: ScanSpec, path: str, started_at: datetime) -> CaptureSpec:
    """Return how to read a file: as its camera is read, but as fast as possible and from its own clock."""
    camera = spec.settings.cameras[spec.camera]
    return replace(
        capture_spec(spec.camera, camera),
        source=path,
        record_source=None,
        decode=spec.decode,
        threads=max(camera.capture.threads, spec.threads),
        speed="max",
        loop=False,
        isolation="thread",
        monotonic=_zero,
        wall=started_at.timestamp,
    )


async def _watch(
    task: ScanTask, capture: CameraSource, outbox: ScanOutbox, counts: _Counts, notes: OverlayNotes | None
) -> str | None:
    """Walk the recording's frames through a camera's pipeline; return why it was not read to its end."""
    spec = task.spec
    with ThreadPoolExecutor(1, "detect") as executor, ThreadPoolExecutor(1, "encode") as encoder:
        unit = build_unit(
            spec.settings,
            spec.camera,
            source=_Frames(capture, colours=spec.needs_jpegs),
            outbox=outbox,
            observer=counts,
            executor=executor,
            encoder=encoder,
            viewer=counts.judged if notes is None else notes.and_then(counts.judged),
            encode=None if spec.needs_jpegs else _unencoded,
            draw24=_numbers(task.recording),
            settle_s=SETTLE_S,
        )
        try:
            await unit.run()
        except CameraUnavailable as exc:
            return _words(exc, task.recording)
        except BaseExceptionGroup as group:
            raise _first(group) from None
    return None


class _Frames:
    """The recording's frames, as the unit reads them. Without `colours` no BGR image is made."""

    def __init__(self, capture: CameraSource, *, colours: bool) -> None:
        self._capture = capture
        self._colours = colours

    @property
    def live(self) -> bool:
        """False: the reader waits for its consumer."""
        return False

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield the frames. Raises CameraUnavailable, CameraRefused."""
        async with aclosing(self._capture.frames()) as frames:
            async for frame in frames:
                yield frame if self._colours else _grey(frame)

    def judged(self, monotonic: float, detection: Detection) -> None:
        """Do nothing: when a verdict reached the reader would depend on thread scheduling."""


class _Counts:
    """An observer of the unit that counts frames, judged and lost, and reports progress."""

    def __init__(self, seconds: float | None, on_share: OnShare) -> None:
        self._seconds = seconds
        self._on_share = on_share
        self.frames = 0
        self.lost = 0
        self.newest = 0.0
        """Time of the newest judged frame, in seconds from the first."""

    def judged(self, frame: Frame, _detection: Detection) -> None:
        self.frames += 1
        self.newest = frame.monotonic
        if self._seconds:
            self._on_share(min(1.0, frame.monotonic / self._seconds))

    def dropped(self, _camera: str, _reason: str, count: int) -> None:
        self.lost += count

    def motion(self, camera: str, on: bool) -> None: ...
    def zone_motion(self, camera: str, zone: str, on: bool) -> None: ...
    def detected(self, camera: str, detection: Detection) -> None: ...
    def scene_changed(self, camera: str, kind: SceneChange) -> None: ...
    def event_started(self, event: MotionEvent) -> None: ...
    def event_ended(self, event: MotionEvent) -> None: ...
    def problem(self, camera: str, problem: str | None) -> None: ...
    def camera_online(self, camera: str) -> None: ...
    def camera_offline(self, camera: str, problem: str) -> None: ...


def _zero() -> float:
    """Return the monotonic time at which a recording begins. It never advances: a file cannot stall."""
    return 0.0


def _grey(frame: Frame) -> Frame:
    luma = frame.luma
    return replace(frame, bgr=lambda: luma)


def _unencoded(image: Image) -> tuple[bytes, int, int]:
    height, width = image.shape[:2]
    return b"", width, height


def _numbers(recording: Recording) -> Callable[[], int]:
    """Return a function that draws the 24 bits of each event id, the same in every scan of the recording."""
    name = PurePosixPath(recording.place).name
    count = 0

    def draw() -> int:
        nonlocal count
        count += 1
        seed = f"{recording.camera}\0{name}\0{count}".encode(errors="surrogateescape")
        return int.from_bytes(hashlib.sha256(seed).digest()[:3])

    return draw


def _begin(recording: Recording, facts: ContainerFacts, path: str) -> tuple[datetime, StartSource] | None:
    """Return when the recording's first frame was captured (UTC) and the source of that time, or None."""
    if recording.started_at is not None and recording.start_source is not None:
        return recording.started_at, recording.start_source
    if facts.created_at is not None:
        return facts.created_at, "container"
    if recording.is_remote:
        return None
    ended = datetime.fromtimestamp(os.stat(path).st_mtime, UTC).timestamp()  # noqa: PTH116
    return datetime.fromtimestamp(round(ended - (facts.seconds or 0.0), 3), UTC), "modified"


@asynccontextmanager
async def _store(spec: ScanSpec) -> AsyncIterator[AnyReader]:
    async with build_bucket(spec.settings, making=True) as bucket:
        yield bucket


@asynccontextmanager
async def _local(recording: Recording, spec: ScanSpec) -> AsyncIterator[str]:
    """Yield the path of a local file with the recording; an object is fetched into a temporary file."""
    if not recording.is_remote:
        yield recording.place
        return
    name, _, key = recording.place.removeprefix("s3://").partition("/")
    with tempfile.NamedTemporaryFile(prefix="async_motion_scan_", delete=not ON_LINUX) as file:
        if ON_LINUX:
            # Unlinked now, so that the file disappears with this process even after SIGKILL.
            os.unlink(file.name)  # noqa: PTH108
        async with build_bucket(spec.settings, bucket=name) as bucket:
            await _fetch(bucket, key, file.file)
        yield f"/proc/self/fd/{file.fileno()}" if ON_LINUX else file.name


async def _fetch(bucket: AnyReader, key: str, file: IO[bytes]) -> None:
    """Fetch an object into a file; retry transient errors. Raises StoreUnavailable, UsageError."""
    backoff = Backoff(draw=lambda: 1.0, max_s=10.0)
    while True:
        file.seek(0)
        file.truncate()
        try:
            async for piece in bucket.pieces(key):
                await asyncio.to_thread(file.write, piece)
        except StoreRefused:
            raise
        except StoreUnavailable:
            if backoff.failures + 1 >= MAX_TRIES:
                raise
            await asyncio.sleep(backoff.next_s())
        except RecordRejected:
            raise UsageError("no longer exists") from None
        else:
            file.flush()
            return


def _words(exc: CameraUnavailable, recording: Recording) -> str:
    """Return the error's text without the recording's path, which the caller prints in front."""
    text = str(exc)
    for shown in (recording.place, recording.name):
        text = text.removeprefix(f"{shown}: ")
    return text.partition(": ")[2] if text.startswith("/proc/") else text


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
