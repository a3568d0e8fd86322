"""The ledger: records beside the results what was scanned, so that any engine on any machine can resume.

    {prefix}{instance}/.scan/1/{camera}/done/{recording}.json            a marker: the outcome, written last
    {prefix}{instance}/.scan/1/{camera}/{YYYY}/{MM}/{DD}/{recording}.jsonl
                                                    the recording's lines of that day's index (store only)
    {prefix}{instance}/.index/1/{camera}/{YYYY}/{MM}/{DD}.5ca9ed.jsonl.gz       built from all lines of a day

`{recording}` is a digest of its place: the absolute path or the URL. With `--store` the ledger is in the
store, else in the folder of `--out`, else there is none. A camera can never be called `.scan`.

A marker is valid if the recording's size and what the results depend on (settings, time, decoding) are
unchanged, and if every output asked for was made. Otherwise the recording is scanned again, and outputs of
the earlier scan that this one does not make are removed.

*The index.* Scanners may work on one day at the same time. Each writes the lines of its own recordings, then
builds the day's file from all lines, and builds it again until the lines have not changed. The last scanner
has therefore seen all lines.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

from async_motion.app.buckets import build_bucket, build_folder
from async_motion.core.index import SCANNED, event_day, index_key, pack_encoded, parse_line
from async_motion.core.names import event_key, frame_key
from async_motion.core.payloads import encode, iso, parse_iso
from async_motion.errors import UnreadableObject
from async_motion.scan.model import Recording, ScanOutcome, ScanSpec, folder_of
from async_motion.scan.sinks import put_with_retries

if TYPE_CHECKING:
    from async_motion.app.buckets import AnyReader

log = logging.getLogger(__name__)

VERSION = 1
MAX_MARKER_BYTES = 256 * 1024 * 1024
MAX_INDEX_BYTES = 16 * 1024 * 1024
MAX_ROUNDS = 8
_NO_MARKER = (
    UnreadableObject,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a marker raises that is none."""
"""Maximum rebuilds of a day's index while others write. It may then be stale: the last writer rebuilds it."""


class ScanLedger:
    """The markers of one instance, in an opened store or folder."""

    def __init__(self, bucket: AnyReader, *, prefix: str, instance: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._instance = instance

    async def known(self, camera: str) -> set[str]:
        """Return the digests of the camera's recordings that have a marker."""
        folder = f"{self._root(camera)}done/"
        return {key.removeprefix(folder).removesuffix(".json") for key in await self._keys(folder)}

    async def find(self, recording: Recording, spec: ScanSpec) -> tuple[ScanOutcome, bool] | None:
        """Return the outcome of an earlier scan, and whether it is still valid; None if there is none."""
        key = self._marker(recording)
        try:
            data = await self._bucket.read(key, MAX_MARKER_BYTES)
            if data is None:
                return None
            fields = json.loads(data)
            if not isinstance(fields, dict) or fields.get("v") != VERSION:
                return None
            begin = None if fields["started_at"] is None else parse_iso(fields["started_at"])
            found = ScanOutcome.of_payload(
                Recording(
                    place=recording.place,
                    name=recording.name,
                    size=int(fields["size"]),
                    camera=recording.camera,
                    started_at=begin,
                    start_source=fields["time_from"],
                ),
                fields["outcome"],
            )
            same = fields["size"] == recording.size and fields["settings"] == spec.fingerprint
            same = same and recording.started_at in (None, begin)
            return found, same and set(spec.makes) <= set(fields["makes"])
        except _NO_MARKER as exc:
            log.warning("%s: is not a marker; scanning again: %s", key, exc)
            return None

    async def note(self, outcome: ScanOutcome, spec: ScanSpec, *, known: ScanOutcome | None = None) -> None:
        """Write a recording's lines of the index, then its marker.

        Days that only `known`, the earlier outcome, has are emptied.
        """
        recording = outcome.recording
        by_day: dict[date, list[str]] = {day: [] for day in days_of([known] if known else [])}
        for line in outcome.lines:
            day = event_day(parse_line(line, SCANNED).event_id)
            by_day.setdefault(day, []).append(line)
        for day, lines in sorted(by_day.items()):
            body = "".join(f"{line}\n" for line in lines).encode()
            await self._put(self._lines(recording, day), body, "application/jsonl")
        marker = {
            "v": VERSION,
            # A path may hold bytes that are not UTF-8.
            "place": recording.place.encode(errors="backslashreplace").decode(),
            "size": recording.size,
            "camera": recording.camera,
            "started_at": None if recording.started_at is None else iso(recording.started_at),
            "time_from": recording.start_source,
            "settings": spec.fingerprint,
            "makes": list(spec.makes),
            "outcome": outcome.payload(),
        }
        await self._put(self._marker(recording), encode(marker), "application/json")

    async def write_index(self, camera: str, day: date) -> bool:
        """Build the index file of a day (UTC); return whether it has changed."""
        folder = f"{self._root(camera)}{day:%Y/%m/%d}/"
        key = index_key(self._prefix, self._instance, camera, day, SCANNED)
        changed = False
        for _ in range(MAX_ROUNDS):
            lines: dict[str, bytes] = {}
            for each in await self._keys(folder):
                data = await self._bucket.read(each, MAX_INDEX_BYTES) or b""
                lines |= dict(_lines_of(data, each))
            body = pack_encoded(line for _, line in sorted(lines.items()))
            if body == await self._bucket.read(key, MAX_INDEX_BYTES):
                return changed
            if not lines and not changed and await self._bucket.read(key, MAX_INDEX_BYTES) is None:
                return False
            await self._put(key, body, "application/gzip")
            changed = True
        return changed

    async def _keys(self, prefix: str) -> list[str]:
        found: list[str] = []
        token: str | None = None
        while True:
            page = await self._bucket.page(prefix, token=token)
            found += [each.key for each in page.objects]
            token = page.next
            if token is None:
                return found

    async def _put(self, key: str, body: bytes, content_type: str) -> None:
        await put_with_retries(
            self._bucket,
            key,
            body,
            content_type=content_type,
            metadata={"kind": "scan"},
            tags={"kind": "scan"},
        )

    def _root(self, camera: str) -> str:
        return f"{self._prefix}{self._instance}/.scan/{VERSION}/{camera}/"

    def _marker(self, recording: Recording) -> str:
        return f"{self._root(recording.camera)}done/{recording.digest}.json"

    def _lines(self, recording: Recording, day: date) -> str:
        return f"{self._root(recording.camera)}{day:%Y/%m/%d}/{recording.digest}.jsonl"


@asynccontextmanager
async def ledger_of(spec: ScanSpec) -> AsyncIterator[ScanLedger | None]:
    """Open the ledger beside the outputs of `spec`; None if there are none."""
    settings = spec.settings
    if spec.store:
        async with build_bucket(settings, making=True) as bucket:
            yield ScanLedger(bucket, prefix=settings.minio.prefix, instance=settings.instance)
    elif spec.out is not None:
        async with build_folder(spec.out) as folder:
            yield ScanLedger(folder, prefix="", instance=settings.instance)
    else:
        yield None


async def replace_known(
    known: ScanOutcome, outcome: ScanOutcome, spec: ScanSpec, store: AnyReader | None
) -> None:
    """Remove the outputs of the earlier scan `known` that `outcome` does not have."""
    stale = _stale(known.events, outcome.events)
    if store is not None:
        keys = [key for event, seqs in stale for key in _keys_of(folder_of(spec, event), seqs)]
        for at in range(0, len(keys), 1000):
            await store.remove(keys[at : at + 1000])
    if spec.out is not None:
        now = {event["event_id"] for event in outcome.events}
        for event, _ in stale:
            if event["event_id"] not in now:
                shutil.rmtree(spec.out / event["camera"] / event["event_id"], ignore_errors=True)


def days_of(outcomes: Iterable[ScanOutcome]) -> set[date]:
    """Return the days (UTC) of the events in these outcomes."""
    return {event_day(event["event_id"]) for outcome in outcomes for event in outcome.events}


def _stale(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], list[int]]]:
    """Return events of `before` with the `seq` of stills missing in `after`; -1 stands for the summary."""
    kept = {event["event_id"]: {still["seq"] for still in event["stills"]} for event in after}
    found = []
    for event in before:
        stills = kept.get(event["event_id"])
        gone = [still["seq"] for still in event["stills"] if stills is None or still["seq"] not in stills]
        if stills is None:
            gone.append(-1)
        if gone:
            found.append((event, gone))
    return found


def _keys_of(folder: str, seqs: Iterable[int]) -> list[str]:
    return [event_key(folder) if seq < 0 else frame_key(folder, seq) for seq in seqs]


def _lines_of(data: bytes, key: str) -> Iterable[tuple[str, bytes]]:
    for line in data.splitlines():
        try:
            yield parse_line(line, SCANNED).event_id, line
        except UnreadableObject as exc:
            log.warning("%s: a line cannot be read: %s", key, exc)
