"""Probe once everything that the settings name: cameras, spool, store, broker.

Each camera is opened until its first frame. A test object is written, read and deleted, a test message is
published and received. A failed probe never stops the following ones.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from async_motion.app import build, units
from async_motion.broker.client import BrokerClient
from async_motion.errors import (
    AsyncMotionError,
    BrokerUnavailable,
    RecordRejected,
    SpoolError,
    StoreRefused,
    TransientError,
)
from async_motion.settings import Settings
from async_motion.spool import look

BROKER_DEADLINE_S = 15.0
"""Time limit for connecting to the broker and receiving our own message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one probe found. `ok` is None for a remark that is not a fault."""

    what: str
    ok: bool | None
    text: str


async def probe(settings: Settings) -> AsyncIterator[Finding]:
    """Yield the findings of all probes, one after another."""
    for name, camera in settings.cameras.items():
        if not camera.enabled:
            yield Finding(what=f"camera {name}", ok=None, text="not enabled, not opened")
            continue
        yield await _probe_camera(settings, name)
    yield await asyncio.to_thread(_probe_spool, settings)
    async for finding in _probe_store(settings):
        yield finding
    yield await _probe_broker(settings)


async def _probe_camera(settings: Settings, name: str) -> Finding:
    what = f"camera {name}"
    camera = settings.cameras[name]
    source = units.build_source(name, camera)
    deadline = camera.capture.open_timeout + camera.capture.stall_timeout + 1.0 / camera.detect.fps
    frames = source.frames()
    try:
        async with asyncio.timeout(deadline + 5.0):
            async for frame in frames:
                height, width = frame.luma.shape
                return Finding(what=what, ok=True, text=f"a frame of {width}x{height}")
        return Finding(what=what, ok=False, text="ended before its first frame")
    except TransientError as exc:
        return Finding(what=what, ok=False, text=str(exc))
    except TimeoutError:
        return Finding(what=what, ok=False, text=f"no frame within {deadline:.0f} s")
    finally:
        await source.aclose()


async def _probe_store(settings: Settings) -> AsyncIterator[Finding]:
    what = "store"
    key = f"{settings.minio.prefix}{settings.instance}/.check/{secrets.token_hex(8)}"
    text = b"written by async-motion check --probe; may be deleted"
    try:
        async with build.build_store(settings) as store:
            await store.put(key, text, content_type="text/plain", metadata={}, tags={})
            yield Finding(what=what, ok=True, text=f"wrote a test object to {store.bucket}")
            try:
                same = await store.get(key) == text
            except (StoreRefused, RecordRejected) as exc:
                # An uploader needs only the right to write; subscribers read with their own credentials.
                yield Finding(
                    what=what, ok=None, text=f"these credentials may not read it (not needed to run): {exc}"
                )
            else:
                yield Finding(what=what, ok=same, text="read it back" if same else "read back other bytes")
            try:
                await store.delete(key)
            except (StoreRefused, RecordRejected) as exc:
                yield Finding(
                    what=what,
                    ok=None,
                    text=f"these credentials may not delete {key}, it stays (not needed to run): {exc}",
                )
            else:
                yield Finding(what=what, ok=True, text="deleted it")
    except AsyncMotionError as exc:
        yield Finding(what=what, ok=False, text=str(exc))


async def _probe_broker(settings: Settings) -> Finding:
    what = "broker"
    topic = f"{settings.mqtt.base_topic}/{settings.instance}/check/{secrets.token_hex(8)}"
    token = secrets.token_bytes(16)
    back = asyncio.Event()
    async with build.run_broker(settings) as (host, port):
        client = build.build_client(settings, host, port, role="check")

        def arrived(_topic: str, payload: bytes, _retained: bool) -> None:
            if payload == token:
                back.set()

        ready = asyncio.Event()
        client.subscribe(topic, arrived)
        client.on_connect(ready.set)
        async with asyncio.TaskGroup() as tasks:
            connection = tasks.create_task(client.run(), name="probe broker")
            try:
                async with asyncio.timeout(BROKER_DEADLINE_S):
                    await _answered(client, ready)
                    await client.publish(topic, token)
                    await back.wait()
                return Finding(what=what, ok=True, text=f"{host}:{port} returned the test message")
            except BrokerUnavailable as exc:
                return Finding(what=what, ok=False, text=f"{host}:{port}: {exc}")
            except TimeoutError:
                accepted = "accepted the test message but did not return it"
                why = accepted if ready.is_set() else str(client.health)
                return Finding(what=what, ok=False, text=f"{host}:{port}: {why}")
            finally:
                connection.cancel()


async def _answered(client: BrokerClient, ready: asyncio.Event) -> None:
    """Wait for the connection. Raises BrokerUnavailable on the first failure: a probe does not retry."""
    before = client.health
    while not ready.is_set():
        if not client.health.ok and client.health != before:
            raise BrokerUnavailable(str(client.health))
        await asyncio.sleep(0.05)


def _probe_spool(settings: Settings) -> Finding:
    """Return whether the spool's folder is writable, and how many frames wait. Blocks."""
    what = "spool"
    if settings.spool.path == ":memory:":
        return Finding(what=what, ok=None, text="in memory: waiting frames are lost with the process")
    path = Path(settings.spool.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".check-"):
            pass
        waiting = f"{look(path).records} frames wait" if path.exists() else "not there yet, can be created"
    except OSError as exc:
        return Finding(what=what, ok=False, text=f"{path}: cannot be written ({exc.strerror})")
    except SpoolError as exc:
        return Finding(what=what, ok=False, text=str(exc))
    return Finding(what=what, ok=True, text=f"{path}: {waiting}")
