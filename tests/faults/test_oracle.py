"""The oracle itself: it accepts a good run, and reports each broken promise."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from async_motion.core import payloads
from async_motion.core.model import Phase, Record
from tests.faults.mqttwire import QUOTA_EXCEEDED, Refusing
from tests.faults.oracle import SOON_S, Healed, Heard, Oracle, Verdict, watching
from tests.faults.stage import leaked
from tests.support.records import end_of, make_event, make_record, stored_of
from tests.support.wait import eventually_async

EVENT = make_event(peak_score=0.0341)
EVENT_ID = EVENT.event_id
JPEG = b"a frame"
COUNT = 4


def record(seq: int) -> Record:
    return make_record(EVENT, seq, jpeg=JPEG)


def frame_id(seq: int) -> str:
    return record(seq).info.frame_id


def key_of(seq: int) -> str:
    return record(seq).info.object_key


def frame(seq: int, **changes: Any) -> dict[str, Any]:
    return payloads.frame_payload(stored_of(record(seq))) | changes


def event(phase: Phase) -> dict[str, Any]:
    ended = phase is Phase.END
    return payloads.event_payload(
        phase,
        end_of(EVENT).event if ended else EVENT,
        now=EVENT.started_at,
        frames_stored=COUNT if ended else 1,
        best_frame=key_of(0),
    )


@dataclass
class Run:
    """The observations of a good run, which a test then spoils."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[str, dict[str, Any], float]] = field(default_factory=list)
    """(suffix of the topic, payload, seconds after the acceptance)."""
    bucket: dict[str, bytes] = field(default_factory=dict)
    healed: list[Healed] = field(default_factory=list)

    def at(self, seq: int) -> int:
        """Return the index of a frame's announcement."""
        return next(i for i, (_, p, _) in enumerate(self.heard) if p.get("frame_id") == frame_id(seq))


def good_run() -> Run:
    begun = time.monotonic()
    run = Run()
    sha256 = hashlib.sha256(JPEG).hexdigest()
    for seq in range(COUNT):
        line = {"accepted": frame_id(seq), "key": key_of(seq), "sha256": sha256, "at": begun + seq}
        run.lines += [line, {"acked": frame_id(seq), "at": begun + seq + 0.2}]
        run.bucket[key_of(seq)] = JPEG
        run.heard.append(("frame", frame(seq), begun + seq + 0.1))
        if seq == 0:
            run.heard.append(("event", event(Phase.START), begun + 0.2))
    run.heard.append(("event", event(Phase.END), begun + COUNT))
    run.healed.append(Healed("nothing", begun - 1.0))
    return run


async def judged(run: Run, folder: Path) -> Verdict:
    async def fetch(key: str) -> bytes | None:
        return run.bucket.get(key)

    oracle = Oracle(folder / "witness.jsonl", fetch)
    oracle.witness.write_text("".join(json.dumps(line) + "\n" for line in run.lines))
    oracle.healed += run.healed
    async with watching(oracle):
        for suffix, payload, at in run.heard:
            oracle.hear(Heard(f"async_motion/edge1/porch/{suffix}", payload, at))
        return await oracle.judge()


async def test_a_run_in_which_all_went_well_is_good(tmp_path: Path) -> None:
    verdict = await judged(good_run(), tmp_path)
    assert verdict.problems == []
    assert (verdict.figures["accepted"], verdict.figures["announced"], verdict.figures["lost"]) == (4, 4, 0)


def _without_object(run: Run) -> None:
    del run.bucket[key_of(2)]


def _other_bytes(run: Run) -> None:
    run.bucket[key_of(2)] = b"half a pic"


def _never_announced(run: Run) -> None:
    del run.heard[run.at(2)]
    run.lines = [line for line in run.lines if line.get("acked") != frame_id(2)]


def _confirmed_and_not_heard(run: Run) -> None:
    del run.heard[run.at(2)]


def _other_key(run: Run) -> None:
    place = run.at(2)
    suffix, _, at = run.heard[place]
    run.heard[place] = (suffix, frame(2, object_key=key_of(1)), at)


def _out_of_order(run: Run) -> None:
    first, second = run.at(1), run.at(2)
    run.heard[first], run.heard[second] = run.heard[second], run.heard[first]


def _after_the_end(run: Run) -> None:
    run.heard.append(run.heard.pop(run.at(3)))


def _no_end(run: Run) -> None:
    run.heard = [heard for heard in run.heard if heard[1].get("type") != "end"]


def _bad_form(run: Run) -> None:
    run.heard[run.at(1)][1]["score"] = "high"


def _slow_recovery(run: Run) -> None:
    run.heard = [(suffix, payload, at + SOON_S + 1.0) for suffix, payload, at in run.heard]


def _dropped(run: Run) -> None:
    run.lines.append({"dropped": {"full": 1}, "at": time.monotonic()})


def _repeated(run: Run) -> None:
    run.heard[1:1] = [run.heard[0]] * 60


def _nothing(run: Run) -> None:
    run.lines.clear()
    run.heard.clear()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_without_object, "is not in the bucket"),
        (_without_object, "announced before it was stored"),
        (_other_bytes, "is in the bucket with other bytes"),
        (_other_bytes, "announced with other bytes than stored"),
        (_never_announced, "was accepted and never announced"),
        (_confirmed_and_not_heard, "never heard"),
        (_other_key, "was announced under another key"),
        (_out_of_order, "out of order"),
        (_after_the_end, "after its event's end"),
        (_no_end, "events without an end"),
        (_bad_form, "'high' is not of type"),
        (_slow_recovery, "the first fresh frame took 16.1 s"),
        (_dropped, "the spool has dropped records"),
        (_repeated, "announcements were repeats"),
        (_nothing, "nothing was accepted"),
    ],
)
async def test_a_broken_promise_is_seen(spoil: Callable[[Run], None], problem: str, tmp_path: Path) -> None:
    run = good_run()
    spoil(run)
    verdict = await judged(run, tmp_path)
    assert any(problem in found for found in verdict.problems), verdict.problems


async def test_a_key_is_fetched_when_it_is_announced_and_not_later(tmp_path: Path) -> None:
    run = good_run()
    late = run.bucket.pop(key_of(2))

    async def fetch(key: str) -> bytes | None:
        return run.bucket.get(key)

    oracle = Oracle(tmp_path / "witness.jsonl", fetch)
    async with watching(oracle):
        oracle.hear(Heard("async_motion/edge1/porch/frame", frame(2), 0.0))
        await eventually_async(lambda: oracle.missing, what="the look at the key")
        run.bucket[key_of(2)] = late
    assert oracle.missing == [key_of(2)]


async def test_late_frames_may_come_in_any_order(tmp_path: Path) -> None:
    run = good_run()
    run.heard[run.at(1)][1]["delayed"] = True
    first, second = run.at(1), run.at(2)
    run.heard[first], run.heard[second] = run.heard[second], run.heard[first]
    assert (await judged(run, tmp_path)).problems == []


async def test_the_spool_is_measured_while_it_grows(tmp_path: Path) -> None:
    async def fetch(_key: str) -> bytes | None:
        return None

    oracle, spool = Oracle(tmp_path / "witness.jsonl", fetch), tmp_path / "spool.db"
    async with watching(oracle, spool):
        spool.write_bytes(bytes(3000))
        (tmp_path / "spool.db-wal").write_bytes(bytes(2000))
        await eventually_async(lambda: oracle.spool_bytes == 5000, what="the larger size")
        spool.write_bytes(b"")
        await asyncio.sleep(0)
    assert oracle.spool_bytes == 5000


HEALTHY: dict[str, Any] = {"tasks": ["main", "broker"], "threads": ["spool"], "connections": 4, "files": 20}


@pytest.mark.parametrize(
    ("change", "leak"),
    [
        ({}, ""),
        ({"tasks": ["main", "broker", "upload 7"]}, "tasks: ['upload 7']"),
        ({"tasks": ["main", "broker", "a", "b", "c"]}, "tasks: ['a', 'b', 'c']"),
        ({"threads": ["spool", "x", "y", "z"]}, "threads: ['x', 'y', 'z']"),
        ({"threads": ["spool"] + ["asyncio_0"] * 60}, "threads: [], 1 -> 61"),
        ({"connections": 13}, "connections: 4 -> 13"),
        ({"files": 25}, "files: 20 -> 25"),
    ],
)
def test_a_leak_is_seen(change: dict[str, Any], leak: str) -> None:
    found = leaked(HEALTHY, HEALTHY | change)
    assert [problem[: len(leak)] for problem in found] == ([leak] if leak else [])


def test_a_full_broker_takes_no_publish_and_says_so() -> None:
    connect, ping = bytes([0x10, 2, 0, 0]), bytes([0xC0, 0])
    publish = bytes([0x32, 9]) + b"\0\3a/b" + b"\0\7" + b"\0" + b"x"
    refusing = Refusing(QUOTA_EXCEEDED)
    stream = connect + publish + ping
    onward, back = b"", b""
    for place in range(len(stream)):
        more, answer = refusing(stream[place : place + 1])
        onward, back = onward + more, back + answer
    assert onward == connect + ping
    assert back == bytes([0x40, 3, 0, 7, QUOTA_EXCEEDED])
    assert refusing.refused == 1
