"""Judge a run: what the oracle saw, what was announced, and what is in the bucket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.fleet.hosts import FleetOfHosts
from tests.fleet.oracle import ConnectionOracle, Span
from tests.support.wait import eventually

RESOLUTION_S = 0.3
"""An overlap up to this length is below what the oracle can tell."""
THAW_S = 5.0
"""How long a worker that was frozen may take to leave its cameras, once it runs again."""


@dataclass
class Judgement:
    """What a run has shown. It holds if `problems` is empty."""

    problems: list[str]
    figures: dict[str, Any]


def moved_of_others(
    before: Mapping[int, tuple[str, ...]], after: Mapping[int, tuple[str, ...]], *, broken: set[str]
) -> int:
    """Return how many cameras moved that another worker owned than a broken one."""
    return sum(
        bool(owners) and owners != after[camera] and not broken & set(owners)
        for camera, owners in before.items()
    )


def devices(fleet: FleetOfHosts) -> dict[str, str]:
    """Return Home Assistant's devices: the newest payload of each topic, with what may change left out."""
    found = {}
    for message in list(fleet.stage.world.messages):
        if message.topic.startswith("homeassistant/device/"):
            found[message.topic] = sorted(message.json()["components"]) if message.payload else "removed"
    return {topic: str(what) for topic, what in found.items()}


def judge_end(fleet: FleetOfHosts, devices_before: dict[str, str]) -> list[str]:
    """Let the spools run empty and the workers end; return what is stuck."""
    stage, problems = fleet.stage, []
    try:
        eventually(lambda: fleet.spools() == 0, within_s=180, what=f"empty spools ({fleet.spools()} records)")
    except AssertionError as exc:
        problems.append(str(exc))
    if devices(fleet) != devices_before:
        problems.append("Home Assistant's devices have changed")
    for name, worker in stage.workers.items():
        try:
            code = worker.stop(120)
        except AssertionError as exc:
            problems.append(f"{name}: {exc}")
            continue
        if code != 0:
            problems.append(f"{name}: exit code {code}: {worker.log_text()[-1500:]}")
    stuck = [camera for camera in stage.cameras if stage.newest(f"{camera}/motion") == "ON"]
    problems += [f"{camera}: motion is stuck ON" for camera in stuck]
    return problems


def judge_connections(
    oracle: ConnectionOracle,
    *,
    bound_s: float,
    slack_s: float,
    keeps: bool,
    why: Callable[[Span], str] = lambda _span: "",
) -> list[str]:
    """Return the gaps beyond the bound and, unless `keeps`, the times of two owners at once.

    `why` adds what is known of such a time.
    """
    late = [span for span in oracle.gaps if span.excused is None and span.length_s > bound_s + slack_s]
    twice = [span for span in oracle.overlaps if span.excused is None and span.length_s > RESOLUTION_S]
    slow = [span for span in oracle.overlaps if span.excused is not None and span.length_s > THAW_S + slack_s]
    if keeps:
        twice = slow = []

    def said(what: str, spans: list[Span]) -> list[str]:
        return [
            f"camera {span.camera}: {what} for {span.length_s:.1f} s {' and '.join(span.workers)}{why(span)}"
            for span in spans
        ]

    return [
        *said("no owner", late),
        *said("two owners", twice),
        *said("two owners after a thaw", slow),
    ]


def judge_frames(fleet: FleetOfHosts) -> tuple[list[str], dict[str, Any]]:
    """Return what is lost among the frames: between bucket, announcements, and the numbers of both."""
    stored = fleet.buckets()
    announced, events = set(), defaultdict(set)
    numbers: dict[tuple[str, str], set[int]] = defaultdict(set)
    delayed = ends = lost_ends = 0
    for camera, message in fleet.stage.said():
        payload = message.json()
        if message.topic.endswith("/frame"):
            announced.add(payload["object_key"])
            delayed += payload["delayed"]
        else:
            ends += payload["type"] == "end"
            lost_ends += payload.get("reason") == "worker_lost"
        numbers[camera, payload["writer"]].add(payload["no"])
    for key in stored:
        folder, _, name = key.rpartition("/")
        events[folder].add(int(name.partition(".")[0]))
    problems = [f"announced and not stored: {key}" for key in sorted(announced - stored)]
    problems += [f"stored and not announced: {key}" for key in sorted(stored - announced)]
    problems += [
        f"{folder}: frames are missing, it has {sorted(seqs)}"
        for folder, seqs in sorted(events.items())
        if len(seqs) != max(seqs) + 1
    ]
    for (camera, writer), seen in sorted(numbers.items()):
        if seen != set(range(1, max(seen) + 1)):
            problems.append(f"{camera} of {writer}: events are missing, there are {sorted(seen)}")
    figures = {
        "frames": len(stored),
        "delayed": delayed,
        "events": len(events),
        "ends": ends,
        "worker_lost": lost_ends,
    }
    return problems, figures
