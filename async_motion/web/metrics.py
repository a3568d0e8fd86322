"""The state as Prometheus metrics: read at each scrape, in a separate registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from async_motion.web.state import PARTS, Snapshot, problem_of

PREFIX = "async_motion_"


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: its name without the prefix, its help, and the path of its value in the state.

    A mapping yields a series for each key, with the label `by`. Counters are exposed with `_total`.
    """

    name: str
    help: str
    path: tuple[str, ...]
    counter: bool = False
    by: str | None = None


SERVICE = (
    Row("spool_records", "Frames that wait for the store or the broker.", ("spool", "records")),
    Row("spool_phases", "Starts and ends of events that wait to be announced.", ("spool", "phases")),
    Row("spool_bytes", "Size of what waits.", ("spool", "bytes")),
    Row("spool_max_bytes", "Bound of the spool.", ("spool", "max_bytes")),
    Row("spool_oldest_age_seconds", "Age of the oldest frame that waits.", ("spool", "oldest_age_s")),
    Row("spool_set_aside", "Frames that were refused for good.", ("spool", "set_aside")),
    Row("spool_accepted", "Frames accepted since the start.", ("spool", "accepted"), counter=True),
    Row("spool_commits", "Transactions since the start.", ("spool", "commits"), counter=True),
    Row(
        "spool_dropped",
        "Frames dropped from the spool, by reason.",
        ("spool", "dropped"),
        counter=True,
        by="reason",
    ),
)
PROCESS = (
    Row(
        "certificate_expiry_timestamp_seconds",
        "When the certificate of the store, the broker or the pages expires.",
        ("certificates",),
        by="of",
    ),
    Row(
        "disk_free_bytes",
        "Room on the disk of the spool, and of a store that is a directory.",
        ("disk_free",),
        by="of",
    ),
    Row(
        "log_dropped_lines",
        "Log lines dropped because their reader was too slow.",
        ("log", "dropped"),
        counter=True,
    ),
)
FLEET = (Row("fleet_unowned_cameras", "Cameras without a worker.", ("fleet", "unowned")),)
WORKER = (
    Row("fleet_worker_capacity_cores", "Cores that a worker may spend.", ("capacity",)),
    Row("fleet_worker_load_cores", "Cores that its cameras use.", ("load",)),
    Row("fleet_worker_cameras", "How many cameras a worker has.", ("cameras",)),
    Row("fleet_worker_spool_records", "Frames that wait in its spool.", ("spool_records",)),
)
LEASE = (Row("fleet_camera_epoch", "Number of the lease on a camera; it grows with each owner.", ("epoch",)),)
DELIVERY = (
    Row("announced_frames", "Frames announced since the start.", ("announced",), counter=True),
    Row("repeated_deliveries", "Frames that were stored or announced again.", ("repeats",), counter=True),
    Row("failed_deliveries", "Failed attempts to reach the store or the broker.", ("retries",), counter=True),
    Row("refused_frames", "Frames that the store refused for good.", ("set_aside",), counter=True),
    Row("stored_bytes", "Size of what was stored since the start.", ("stored_bytes",), counter=True),
    Row("upload_seconds", "Duration of recent uploads, by percentile.", ("upload_s",), by="percentile"),
)
CAMERA = (
    Row("camera_frames_per_second", "Frames judged a second.", ("fps",)),
    Row("camera_score", "Highest recent share of the image that moved, 0..1.", ("score",)),
    Row("camera_events_today", "Events since local midnight.", ("events_today",)),
    Row("camera_upload_latency_seconds", "Recent median time from capture to store.", ("upload_latency_s",)),
    Row("camera_last_motion_timestamp_seconds", "When something last moved.", ("last_motion",)),
    Row("camera_events", "Events since the start.", ("events",), counter=True),
    Row("camera_frames", "Frames judged since the start.", ("frames",), counter=True),
    Row("camera_motion_frames", "Frames with motion since the start.", ("motion_frames",), counter=True),
    Row(
        "camera_verdicts",
        "Frames judged since the start, by the reason of their verdict.",
        ("verdicts",),
        counter=True,
        by="reason",
    ),
    Row(
        "camera_scene_changes",
        "Changes of the whole scene since the start, by kind.",
        ("scene_changes",),
        counter=True,
        by="kind",
    ),
    Row("camera_noise_grey_levels", "How much the image's pixels vary at rest.", ("noise",)),
    Row("camera_stored_frames", "Frames stored and announced since the start.", ("stored",), counter=True),
    Row(
        "camera_dropped_frames",
        "Frames lost before the spool accepted them, by reason.",
        ("dropped",),
        counter=True,
        by="reason",
    ),
    Row("camera_connections", "Connections that delivered a stream.", ("capture", "opened"), counter=True),
    Row(
        "camera_stalls", "Connections closed because no new frame came.", ("capture", "stalls"), counter=True
    ),
    Row(
        "camera_abandoned_readers",
        "Threads or processes that hung and were replaced.",
        ("capture", "abandoned"),
        counter=True,
    ),
    Row(
        "camera_crashed_readers",
        "Processes that died of a signal or of their bound of memory, and were replaced.",
        ("capture", "crashed"),
        counter=True,
    ),
    Row(
        "camera_stream_changes",
        "Frames with another size or codec than the one before.",
        ("capture", "changed"),
        counter=True,
    ),
)


Sources = Mapping[tuple[str, ...], Mapping[str, Any]]
"""A state for each combination of label values."""


class Metrics(Collector):
    """Turns the state into metrics, and adds those of the process (CPU, memory, file descriptors)."""

    def __init__(
        self,
        snapshot: Snapshot,
        lag_s: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._snapshot = snapshot
        self._now = now
        self._lag_s = lag_s
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return (body, content type), in the format that the `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> Iterable[Metric]:
        """Return nothing: without this, registering would call `collect`, which reads the state."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric that has a value in the state."""
        state = self._snapshot()
        cameras = state.get("cameras") or {}
        labels = {"instance_name": str(state.get("instance", "")), "version": str(state.get("version", ""))}
        info = GaugeMetricFamily(f"{PREFIX}info", "Which instance this is.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        lag = GaugeMetricFamily(f"{PREFIX}event_loop_lag_seconds", "How late the event loop woke up last.")
        lag.add_metric([], self._lag_s())
        yield lag
        clock = GaugeMetricFamily(f"{PREFIX}clock_timestamp_seconds", "The time of the service's clock.")
        clock.add_metric([], self._now().timestamp())
        yield clock
        if (started := _number(state.get("started_at"))) is not None:
            start = GaugeMetricFamily(f"{PREFIX}start_time_seconds", "When the service started.")
            start.add_metric([], started)
            yield start
        parts = {part: problem_of(state[part]) is None for part in PARTS if state.get(part) is not None}
        online = {
            name: camera.get("status") not in ("offline", "starting") for name, camera in cameras.items()
        }
        troubled = {name: bool(camera.get("problem")) for name, camera in cameras.items()}
        yield _yes_or_no("part_up", "Whether the spool, the store and the broker work.", "part", parts)
        yield _yes_or_no("camera_up", "Whether the camera delivers frames.", "camera", online)
        yield _yes_or_no("camera_problem", "Whether something is wrong with the camera.", "camera", troubled)
        yield from _families((*SERVICE, *DELIVERY, *PROCESS, *FLEET), {(): state}, ())
        fleet = _mapping(state.get("fleet"))
        workers: Sources = {
            (name,): _mapping(worker) for name, worker in _mapping(fleet.get("workers")).items()
        }
        yield from _families(WORKER, workers, ("worker",))
        leases = {name: _mapping(lease) for name, lease in _mapping(fleet.get("cameras")).items()}
        owned: Sources = {(name, str(lease.get("worker"))): lease for name, lease in leases.items()}
        yield from _families(LEASE, owned, ("camera", "worker"))
        yield from _families(CAMERA, {(name,): camera for name, camera in cameras.items()}, ("camera",))


def _yes_or_no(name: str, text: str, label: str, values: Mapping[str, bool]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, f"{text} 1 or 0.", labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family


def _families(rows: Iterable[Row], sources: Sources, labels: tuple[str, ...]) -> Iterator[Metric]:
    """Yield a family for each row that has a value; `sources` maps label values to a state."""
    for row in rows:
        kind = CounterMetricFamily if row.counter else GaugeMetricFamily
        family = kind(PREFIX + row.name, row.help, labels=[*labels, *([row.by] if row.by else [])])
        for values, source in sources.items():
            found: Any = source
            for step in row.path:
                found = found.get(step) if isinstance(found, Mapping) else None
            items = found.items() if row.by and isinstance(found, Mapping) else [(None, found)]
            for key, item in items:
                number = _number(item)
                if number is not None and (key is not None) == (row.by is not None):
                    family.add_metric([*values, *([str(key)] if key is not None else [])], number)
        if family.samples:
            yield family


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    """Return a finite number, or an ISO time as seconds since 1970; None for anything else."""
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
