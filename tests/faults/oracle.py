"""Compare what must hold at the end with what was observed during the run.

The oracle observes three things: what the service has accepted (the witness file), what subscribers received
and when, and what was in the bucket when an announcement arrived. It trusts neither the spool nor the
service's own figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from paho.mqtt.client import Client, MQTTMessage

from tests.support.mqtt import Recorder
from tests.support.service import ROOT

Fetch = Callable[[str], Awaitable[bytes | None]]
"""Returns the bytes of a key; None if no such object. Raises ConnectionError during an outage."""

SOON_S, SLOWLY_S = 15.0, 45.0
"""Time limit for a fresh frame after an outage, and after a refusal, whose retries are slower."""
REFUSAL_LASTS_S = 120.0
"""How long after a refusal the slower retries may continue."""
MAX_REPEATED, FEW_REPEATS = 0.05, 50
"""Maximum share of repeated announcements, and their maximum number in a short run."""
BROKER_LOSS_S = 5.0
"""Acknowledgements in this time before a broker's kill may be lost: it keeps nothing on disk."""


LOOK_S = 60.0
"""Time limit for the last fetches of announced keys."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as the subscriber received it. `at` is the machine's monotonic clock, in seconds."""

    topic: str
    payload: dict[str, Any]
    at: float


class Subscriber(Recorder):
    """Receives announcements and events, and hands each to the oracle's loop at once."""

    def __init__(
        self, port: int, filters: tuple[str, ...], heard: Callable[[Heard], None], **more: Any
    ) -> None:
        super().__init__(port, filters, **more)
        self._heard = heard
        self._lock = threading.Lock()

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        if message.retain or message.topic.endswith("/snapshot"):
            return
        self._heard(Heard(message.topic, json.loads(bytes(message.payload)), time.monotonic()))

    @property
    def connected(self) -> bool:
        """True while every subscription is confirmed."""
        return self._client.is_connected() and self._subscribed == len(self.filters)


@dataclass(slots=True)
class Healed:
    """A time without faults, from `at` until `until`, after the fault `name`."""

    name: str
    at: float
    is_refusal: bool = False
    until: float = float("inf")


@dataclass
class Verdict:
    """The oracle's result. `problems` is empty if all promises were kept."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)


class Oracle:
    """Collects observations and judges them. `fetch` reads the store directly, without a proxy."""

    def __init__(self, witness: Path, fetch: Fetch) -> None:
        self.witness = witness
        self.heard: list[Heard] = []
        self.missing: list[str] = []
        """Keys that were announced but could not be fetched."""
        self.wrong: list[str] = []
        self.postponed = 0
        """Number of announcements whose key could only be fetched later, because the store was down."""
        self.broker_deaths: list[float] = []
        self.healed: list[Healed] = []
        self._fetch = fetch
        self._queue: asyncio.Queue[Heard] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._lines: list[dict[str, Any]] = []
        self._accepted: dict[str, dict[str, Any]] = {}
        self._read = 0
        self.spool_bytes = 0
        """Maximum size of database and WAL together on the disk."""

    def hear(self, message: Heard) -> None:
        """Queue a message; called from the subscriber's thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def run(self, spool: Path | None = None) -> None:
        """Fetch each key as soon as it is announced, and measure the spool, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if spool is not None:
                tasks.create_task(self._measure(spool), name="measure the spool")
            while True:
                message = await self._queue.get()
                self.heard.append(message)
                if message.topic.endswith("/frame"):
                    looking = tasks.create_task(
                        self._look(message.payload), name=f"fetch {message.payload['frame_id']}"
                    )
                    looking.add_done_callback(lambda _: self._queue.task_done())
                else:
                    self._queue.task_done()

    async def _measure(self, spool: Path) -> None:
        while True:
            size = 0
            for part in (spool, spool.with_name(spool.name + "-wal")):
                with contextlib.suppress(OSError):
                    size += part.stat().st_size
            self.spool_bytes = max(self.spool_bytes, size)
            await asyncio.sleep(0.2)

    async def _look(self, frame: dict[str, Any]) -> None:
        at_once, data = True, None
        while True:
            try:
                data = await self._fetch(frame["object_key"])
                break
            except ConnectionError:
                at_once = False
                await asyncio.sleep(0.2)
        self.postponed += not at_once
        if data is None:
            self.missing.append(frame["object_key"])
        elif hashlib.sha256(data).hexdigest() != frame["sha256"]:
            self.wrong.append(frame["object_key"])

    # -- the end

    def lines(self) -> list[dict[str, Any]]:
        """Return the witness's lines, in order."""
        self._read_on()
        return self._lines

    def accepted(self) -> dict[str, dict[str, Any]]:
        """Return the accepted frames by id, in the order of acceptance."""
        self._read_on()
        return self._accepted

    def _read_on(self) -> None:
        if not self.witness.exists():
            return
        with self.witness.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        # Each line is one write; the last one may be incomplete.
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for line in map(json.loads, new.splitlines()):
            self._lines.append(line)
            if "accepted" in line:
                self._accepted[line["accepted"]] = line

    def frames(self) -> list[Heard]:
        """Return the announcements."""
        return [
            h for h in self.heard if h.topic.endswith("/frame") and not h.topic.endswith("/snapshot/frame")
        ]

    def unannounced(self) -> set[str]:
        """Return the ids of accepted frames that no subscriber has received."""
        return self.accepted().keys() - {h.payload["frame_id"] for h in self.frames()}

    async def judge(self, *, max_repeated: float = MAX_REPEATED) -> Verdict:
        """Check all promises. Call it once the spool is empty and nothing moves.

        `max_repeated` is the maximum share of repeated announcements.
        """
        verdict = Verdict()
        await asyncio.sleep(0)  # let the newest messages reach the queue
        try:
            async with asyncio.timeout(LOOK_S):
                await self._queue.join()
        except TimeoutError:
            verdict.problems.append("there are announced keys that could not be fetched")
        accepted, frames = self.accepted(), self.frames()
        verdict.require(bool(accepted), "nothing was accepted: the run shows nothing")
        dropped = [line["dropped"] for line in self.lines() if "dropped" in line]
        verdict.require(not dropped, f"the spool has dropped records: {dropped[-1:]}")
        await self._judge_bucket(verdict, accepted)
        # In a thread: the proxies run in our loop, and blocking it would stall the service's connections.
        for judge in (self._judge_announcements, self._judge_order, self._judge_events, self._judge_recovery):
            await asyncio.to_thread(judge, verdict)
        first = {h.payload["frame_id"] for h in frames}
        repeats = len(frames) - len(first)
        most = max(FEW_REPEATS, round(max_repeated * len(frames)))
        verdict.require(repeats <= most, f"{repeats} of {len(frames)} announcements were repeats")
        verdict.figures |= {
            "accepted": len(accepted),
            "announced": len(first),
            "lost": len([p for p in verdict.problems if p.startswith("lost")]),
            "repeats": repeats,
            "repeats_share": round(repeats / max(1, len(frames)), 4),
            "delayed": len({h.payload["frame_id"] for h in frames if h.payload["delayed"]}),
            "fetched_later": self.postponed,
            "spool_mib": round(self.spool_bytes / 2**20, 1),
        }
        return verdict

    async def _judge_bucket(self, verdict: Verdict, accepted: dict[str, dict[str, Any]]) -> None:
        for frame_id, line in accepted.items():
            data = await self._fetch(line["key"])
            if data is None:
                verdict.problems.append(f"lost: {frame_id} was accepted and is not in the bucket")
            elif hashlib.sha256(data).hexdigest() != line["sha256"]:
                verdict.problems.append(f"lost: {frame_id} is in the bucket with other bytes")
        verdict.require(not self.missing, f"announced before it was stored: {self.missing[:5]}")
        verdict.require(not self.wrong, f"announced with other bytes than stored: {self.wrong[:5]}")

    def _judge_announcements(self, verdict: Verdict) -> None:
        accepted, frames = self.accepted(), self.frames()
        _judge_form(verdict, "frame", frames)
        acked = {line["acked"]: line["at"] for line in self.lines() if "acked" in line}
        by_broker = 0
        for frame_id in self.unannounced():
            at = acked.get(frame_id)
            if at is None:
                verdict.problems.append(f"lost: {frame_id} was accepted and never announced")
            elif any(0 <= death - at <= BROKER_LOSS_S for death in self.broker_deaths):
                by_broker += 1
            else:
                verdict.problems.append(f"lost: {frame_id} was confirmed by a living broker, and never heard")
        verdict.figures["acknowledged_by_a_dying_broker"] = by_broker
        known = {h.payload["frame_id"]: h.payload for h in frames}
        for frame_id, line in accepted.items():
            if frame_id in known and known[frame_id]["object_key"] != line["key"]:
                verdict.problems.append(f"{frame_id} was announced under another key")

    def _judge_order(self, verdict: Verdict) -> None:
        """Check that each camera's first announcements, if not delayed, came in the order of acceptance."""
        place = {frame_id: index for index, frame_id in enumerate(self.accepted())}
        seen: set[str] = set()
        last: dict[str, int] = {}
        for heard in self.frames():
            frame = heard.payload
            if frame["frame_id"] in seen:
                continue
            seen.add(frame["frame_id"])
            at = place.get(frame["frame_id"])
            if frame["delayed"] or at is None:
                continue
            if at < last.get(frame["camera"], -1):
                verdict.problems.append(f"out of order: {frame['frame_id']}")
            last[frame["camera"]] = max(at, last.get(frame["camera"], -1))

    def _judge_events(self, verdict: Verdict) -> None:
        """Check that every event that began has ended, after all of its frames' first announcements."""
        _judge_form(verdict, "event", [h for h in self.heard if h.topic.endswith("/event")])
        types: dict[str, list[str]] = {}
        reasons: Counter[str] = Counter()
        heard_frames: dict[str, set[str]] = {}
        for heard in self.heard:
            payload = heard.payload
            if heard.topic.endswith("/event"):
                types.setdefault(payload["event_id"], []).append(payload["type"])
                if payload["type"] == "end":
                    reasons[payload["reason"]] += 1
            elif not heard.topic.endswith("/snapshot/frame"):
                ids = heard_frames.setdefault(payload["event_id"], set())
                fresh = payload["frame_id"] not in ids
                ids.add(payload["frame_id"])
                if fresh and types.get(payload["event_id"], [""])[-1] == "end":
                    verdict.problems.append(
                        f"{payload['frame_id']} was first announced after its event's end"
                    )
        without_end = [event for event, seen in types.items() if "end" not in seen]
        # Messages lost in a killed broker are never received.
        verdict.require(
            len(without_end) <= 2 * len(self.broker_deaths), f"events without an end: {without_end[:5]}"
        )
        verdict.figures["events"] = len({frame_id[:-7] for frame_id in self.accepted()})
        verdict.figures["ends"] = dict(reasons)

    def _judge_recovery(self, verdict: Verdict) -> None:
        """Check that after an outage a fresh frame is announced soon, regardless of the backlog.

        Only times without faults that were long enough are judged. A peer that has refused is retried slowly,
        even if other faults came in between.
        """
        accepted = self.accepted()
        first: dict[str, float] = {}
        for heard in self.frames():
            first.setdefault(heard.payload["frame_id"], heard.at)
        worst: dict[float, float] = {SOON_S: 0.0, SLOWLY_S: 0.0}
        judged = 0
        for number, healed in enumerate(self.healed):
            lately = [h for h in self.healed[: number + 1] if healed.at - h.at < REFUSAL_LASTS_S]
            within_s = SLOWLY_S if any(h.is_refusal for h in lately) else SOON_S
            if healed.until - healed.at < within_s:
                continue
            fresh = [i for i, line in accepted.items() if healed.at <= line["at"] < healed.until]
            if not fresh:
                continue
            judged += 1
            # Measured from the first acceptance: a camera may see no motion for seconds.
            begun = min(accepted[i]["at"] for i in fresh)
            wait_s = min((first.get(i, float("inf")) for i in fresh), default=float("inf")) - begun
            worst[within_s] = max(worst[within_s], wait_s)
            verdict.require(
                wait_s <= within_s, f"after {healed.name} the first fresh frame took {wait_s:.1f} s"
            )
        verdict.figures["recoveries"] = judged
        verdict.figures["first_fresh_frame_s"] = round(worst[SOON_S], 2)
        verdict.figures["first_fresh_frame_after_refusal_s"] = round(worst[SLOWLY_S], 2)


@contextlib.asynccontextmanager
async def watching(oracle: Oracle, spool: Path | None = None) -> AsyncIterator[None]:
    """Run the oracle while the context is open."""
    task = asyncio.create_task(oracle.run(spool), name="oracle")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _judge_form(verdict: Verdict, kind: str, messages: list[Heard]) -> None:
    """Validate messages against their published schema."""
    schema = json.loads((ROOT / f"async_motion/schemas/{kind}-1.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for heard in messages:
        error = next(validator.iter_errors(heard.payload), None)
        verdict.require(error is None, f"{heard.topic}: {error.message if error else ''}")
