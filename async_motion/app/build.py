"""Build broker, delivery, reporter and discovery from settings; `units` builds cameras, `buckets` readers.

The packages take plain values and never see settings. The service, `check` and `listen` all build their
objects here, so that they connect in the same way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from async_motion import __version__
from async_motion.app.buckets import minio_arguments
from async_motion.app.fleet_broker import FleetBroker
from async_motion.app.specs import (
    topics,
    watched_zones,
)
from async_motion.broker import find
from async_motion.broker.client import BrokerClient, Takeover
from async_motion.broker.embedded import EmbeddedBroker
from async_motion.camera.detector_state import KEYS, LearnedKeeper, key_of
from async_motion.camera.unit import CameraUnit
from async_motion.core.health import DeliveryHealth
from async_motion.core.names import Topics
from async_motion.delivery import Delivery, IsCurrent
from async_motion.delivery.day_logs import NOTE_KEY
from async_motion.errors import CameraUnavailable, ImageError
from async_motion.home_assistant.entities import CameraSite, ServiceInfo
from async_motion.home_assistant.places import MISSED_KEY, PLACES_KEY
from async_motion.home_assistant.publisher import DiscoveryPublisher
from async_motion.jpeg import shrink
from async_motion.settings import Settings
from async_motion.spool import Spool
from async_motion.status import DayLogs, Member, Reporter, retained_by
from async_motion.store.directory import DirectoryStore
from async_motion.store.minio import MinioStore
from async_motion.store.retention import KeptDirectoryStore, Retention

AnyStore = MinioStore | DirectoryStore

_LAST_RESORT_S = 60.0
"""How much longer than the store's own deadline delivery waits for its answer."""

SNAPSHOT_BYTES = 1_900_000
"""Maximum size of a snapshot: some brokers close the connection at 2,000,000 bytes."""
PACKET_MARGIN = 1024
"""Bytes of an MQTT packet beside its payload."""


def build_store(settings: Settings, *, reading: bool = False, keeping: bool = False) -> AnyStore:
    """Return the store that the settings name.

    `reading`: the store creates no bucket. `keeping`: a directory store enforces its retention; only the
    service may do so.
    """
    minio = settings.minio
    if minio.endpoint is None:
        bounds = settings.directory.keep
        keep = Retention(days=bounds.days, max_bytes=bounds.max_bytes, min_free=bounds.min_free)
        if keep.is_bounded and keeping:
            return KeptDirectoryStore(settings.directory.path, keep, bucket=minio.bucket)
        return DirectoryStore(settings.directory.path, bucket=minio.bucket)
    return MinioStore(**minio_arguments(settings), create_bucket=minio.create_bucket and not reading)


def build_client(
    settings: Settings,
    host: str,
    port: int,
    *,
    status_topic: str | None = None,
    role: str = "command",
    suffix: str | None = None,
    takeover: Takeover | None = None,
) -> BrokerClient:
    """Return a client for the broker at `host` and `port`; with `status_topic` it is the service's own.

    A command gets a client id of its own, since the broker disconnects the older of two clients with the same
    id. It begins with the service's id, because an access list may match that prefix. The embedded broker has
    neither login nor TLS: it listens on this machine only.
    """
    client_id = settings.mqtt.client_id or f"async_motion-{settings.instance}"
    if suffix is not None:
        client_id += suffix
    elif status_topic is None:
        client_id = f"{client_id}-{role}-{secrets.token_hex(2)}"
    mqtt = settings.mqtt
    remote = mqtt.host is not None
    return BrokerClient(
        host=host,
        port=port,
        username=mqtt.username if remote else None,
        password=mqtt.password.get_secret_value() if remote and mqtt.password else None,
        client_id=client_id,
        protocol=mqtt.protocol,
        keepalive_s=mqtt.keepalive,
        tls=remote and mqtt.tls.enabled,
        ca_file=_text(mqtt.tls.ca_file),
        cert_file=_text(mqtt.tls.cert_file),
        key_file=_text(mqtt.tls.key_file),
        insecure=mqtt.tls.insecure,
        max_packet=None if remote else EmbeddedBroker.MAX_PACKET,
        status_topic=status_topic,
        takeover=takeover,
    )


def run_broker(settings: Settings) -> AbstractAsyncContextManager[tuple[str, int]]:
    """Yield the broker's host and port; the embedded broker runs while the context is open."""
    return find.run_broker(settings.mqtt.host, settings.mqtt.port)


async def find_broker(settings: Settings, say: Callable[[str], None]) -> tuple[str, int]:
    """Return host and port of the running service's broker; `say` is called with a text before a wait."""
    mqtt = settings.mqtt
    if mqtt.host is not None:
        return mqtt.host, mqtt.port
    connect = partial(build_client, settings, role="find")
    return await find.find_embedded(mqtt.port, topics(settings).status, connect=connect, say=say)


async def build_learned(settings: Settings, spool: Spool) -> LearnedKeeper:
    """Return the keeper of what detectors learn; forget the states of cameras that no longer exist."""
    await spool.forget(KEYS, but=[key_of(name) for name in settings.cameras])
    return LearnedKeeper(partial(spool.remember, durable=False))


def build_spool(settings: Settings) -> Spool:
    """Return the spool, not opened."""
    spool = settings.spool
    return Spool(
        spool.path,
        max_bytes=spool.max_bytes,
        max_age_s=spool.max_age,
        when_full=spool.when_full,
        delayed_after_s=spool.delayed_after,
    )


def build_delivery(
    settings: Settings,
    *,
    spool: Spool,
    store: AnyStore,
    broker: BrokerClient | FleetBroker,
    is_current: IsCurrent | None = None,
    day_logs: DayLogs | None = None,
) -> Delivery:
    """Return the delivery from the spool to store and broker.

    `is_current` returns whether this worker holds a camera's lease with this epoch.
    """
    return Delivery(
        spool=spool,
        store=store,
        broker=broker,
        topics=topics(settings),
        prefix=settings.minio.prefix,
        concurrency=settings.minio.concurrency,
        backlog_share=settings.spool.backlog_share,
        delayed_after_s=settings.spool.delayed_after,
        index_every_s=settings.index.every,
        day_logs=day_logs,
        update_every_s=settings.mqtt.update_every,
        presign_s=settings.minio.presign,
        shrink=_snapshot_maker(settings, broker) if settings.mqtt.snapshot.enabled else None,
        put_timeout_s=settings.minio.timeout.put + _LAST_RESORT_S,
        worker_broker=broker.worker if isinstance(broker, FleetBroker) else None,
        is_current=is_current or (lambda _camera, _epoch: True),
    )


async def build_day_logs(settings: Settings, spool: Spool) -> DayLogs:
    """Return the day logs, which continue those of the last run."""
    return DayLogs(settings.instance, recalled=await spool.recall(NOTE_KEY))


async def build_reporter(
    settings: Settings,
    *,
    broker: BrokerClient | FleetBroker,
    spool: Spool,
    health: Callable[[], DeliveryHealth],
    restart_capture: Callable[[], None],
    member: Member | None = None,
) -> Reporter:
    """Return what publishes the cameras' states, with the values remembered by earlier runs.

    In a fleet it has no cameras until the first lease.
    """
    cameras = watched_zones(settings)
    return Reporter(
        broker,
        topics(settings),
        cameras if member is None else {},
        instance=settings.instance,
        version=__version__,
        spool_stats=lambda: asdict(spool.stats),
        delivery_health=health,
        remember=spool.remember,
        recalled=await _recall(spool, Reporter.memory_keys(cameras)),
        restart_capture=restart_capture,
        state_every_s=settings.mqtt.state_every,
        preview_every_s=settings.mqtt.discovery.preview_every,
        frigate_topic=settings.mqtt.frigate_topic,
        profiled=_profiled(settings) if member is None else (),
        fleet=member,
    )


def _profiled(settings: Settings) -> list[str]:
    return [name for name in watched_zones(settings) if not settings.cameras[name].profiles.night.is_blank]


def retained_topics(settings: Settings) -> frozenset[str]:
    """Return all topics under the base on which this instance, through any worker, retains a message."""
    at = topics(settings)
    preview = settings.mqtt.discovery.preview_every is not None
    return retained_by(
        at,
        watched_zones(settings),
        preview=preview,
        profiled=_profiled(settings),
        fleet=bool(settings.fleet.servers),
    )


def foreign_topics(settings: Settings) -> frozenset[str]:
    """Return all topics outside the base on which this instance retains a message."""
    topic = settings.mqtt.frigate_topic
    if topic is None:
        return frozenset()
    return frozenset(Topics(topic).motion(name) for name in watched_zones(settings))


async def build_discovery(
    settings: Settings,
    *,
    broker: BrokerClient | FleetBroker,
    spool: Spool,
    reporter: Reporter,
    looked: Callable[[Collection[str]], None],
) -> DiscoveryPublisher:
    """Return what announces the devices to Home Assistant and clears those that no longer exist.

    `looked` is called with the topics that the broker retained at the start.
    """
    mqtt = settings.mqtt
    return DiscoveryPublisher(
        broker,
        service_info(settings),
        camera_sites(settings),
        prefix=mqtt.discovery.prefix,
        enabled=mqtt.discovery.enabled,
        retained=retained_topics(settings),
        republish=reporter.republish,
        remember=spool.remember,
        recalled=await _recall(spool, (PLACES_KEY, MISSED_KEY)),
        foreign=foreign_topics(settings),
        looked=looked,
    )


def service_info(settings: Settings) -> ServiceInfo:
    """Return the service as it is announced to Home Assistant."""
    return ServiceInfo(
        instance=settings.instance,
        version=__version__,
        topics=topics(settings),
        preview=settings.mqtt.discovery.preview_every is not None,
        latest_version_topic=settings.mqtt.discovery.latest_version_topic,
        web_url=settings.web.url,
    )


def camera_sites(settings: Settings) -> list[CameraSite]:
    """Return the enabled cameras as they are announced to Home Assistant."""
    return [
        CameraSite(
            name=name,
            title=camera.name,
            area=camera.area,
            zones=tuple(camera.detect.zones),
            zone_titles={zone: known.name for zone, known in camera.detect.zones.items() if known.name},
            profiles=not camera.profiles.night.is_blank,
            identity=camera.renamed_from or "",
        )
        for name, camera in settings.cameras.items()
        if camera.enabled
    ]


def build_preview(
    settings: Settings, unit: CameraUnit, broker: BrokerClient | FleetBroker, executor: Executor
) -> Callable[[], Awaitable[bytes | None]]:
    """Return a function that returns a small JPEG of a camera's newest frame, or None without one."""
    smaller = _snapshot_maker(settings, broker)

    async def preview() -> bytes | None:
        try:
            jpeg = await unit.newest_jpeg()
            if jpeg is None:
                return None
            return await asyncio.get_running_loop().run_in_executor(executor, smaller, jpeg)
        except (ImageError, CameraUnavailable):
            return None

    return preview


def _snapshot_maker(settings: Settings, broker: BrokerClient | FleetBroker) -> Callable[[bytes], bytes]:
    """Return a function that shrinks a JPEG to what the broker accepts; the function blocks."""
    snapshot = settings.mqtt.snapshot

    def smaller(jpeg: bytes) -> bytes:
        max_bytes = min(broker.max_packet or SNAPSHOT_BYTES, SNAPSHOT_BYTES) - PACKET_MARGIN
        return shrink(jpeg, snapshot.max_width, snapshot.quality, max_bytes)

    return smaller


async def _recall(spool: Spool, keys: Iterable[str]) -> dict[str, bytes]:
    found = {key: await spool.recall(key) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
