"""Build a camera's parts from settings: its source, its unit, its profiles. Needs no store and no broker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from async_motion.app.specs import (
    capture_spec,
    detector_settings,
    night_values,
    scene_of,
    unit_settings,
)
from async_motion.camera.day_night import COLOUR_EVERY_S, SUN_EVERY_S, LightGauge, ProfileKeeper
from async_motion.camera.detector_state import key_of, recalled
from async_motion.camera.recorder import Encode, RecordOutbox
from async_motion.camera.sun import sun_elevation
from async_motion.camera.unit import CameraUnit, Observer, Source, Viewer
from async_motion.capture import CameraSource, open_source
from async_motion.core.detection.detector import Detector
from async_motion.core.events.day_night import COLOUR, SUN, colour_share
from async_motion.core.events.image_health import ImageHealth
from async_motion.jpeg import encode
from async_motion.settings import CameraSettings, Settings


class Notes(Protocol):
    """The spool's notes."""

    async def recall(self, key: str) -> bytes | None: ...


def build_source(name: str, camera: CameraSettings) -> CameraSource:
    """Return a camera's source, not opened."""
    return open_source(capture_spec(name, camera))


def build_unit(
    settings: Settings,
    name: str,
    *,
    source: Source,
    outbox: RecordOutbox,
    observer: Observer,
    executor: Executor,
    encoder: Executor,
    viewer: Viewer | None = None,
    detector: Detector | None = None,
    encode: Encode | None = None,
    draw24: Callable[[], int] | None = None,
    settle_s: float | None = None,
    worker: str | None = None,
    epoch: int | None = None,
) -> CameraUnit:
    """Return the unit that runs one camera, from its source to the spool.

    `detector` is a restored one that has learned its scene. `encode`, `draw24` and `settle_s` replace the
    service's defaults. `worker` and `epoch` are the camera's lease in a fleet.
    """
    unit = unit_settings(settings, name, worker=worker, epoch=epoch)
    health = ImageHealth()
    return CameraUnit(
        unit if settle_s is None else replace(unit, settle_s=settle_s),
        source=source,
        outbox=outbox,
        observer=observer,
        executor=executor,
        encoder=encoder,
        encode=encode or encoder_of(settings, name),
        draw24=draw24 or partial(secrets.randbits, 24),
        viewer=viewer,
        health=health.update,
        is_placeholder=health.is_placeholder,
        detector=detector,
    )


def encoder_of(settings: Settings, name: str) -> Encode:
    """Return the function that encodes a camera's stills as JPEG."""
    jpeg = settings.cameras[name].jpeg
    return partial(encode, quality=jpeg.quality, max_width=jpeg.max_width)


def keeps_learned(settings: Settings, source: CameraSource) -> bool:
    """Return whether a detector's state is saved: only with a spool on disk and a live source."""
    return settings.spool.path != ":memory:" and source.live


async def recall_detector(
    settings: Settings, name: str, *, spool: Notes, executor: Executor
) -> Detector | None:
    """Return a detector with the state saved for this camera; None if there is none that fits."""
    camera = settings.cameras[name]
    kept = await spool.recall(key_of(name))
    if kept is None:
        return None
    work = partial(
        recalled, name, detector_settings(camera), kept, source=scene_of(camera), now=datetime.now(UTC)
    )
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def build_profiles(
    settings: Settings, name: str, *, unit: CameraUnit, changed: Callable[[], None]
) -> ProfileKeeper | None:
    """Return what switches a camera between day and night; None if it has no settings for the night."""
    profiles = settings.cameras[name].profiles
    if profiles.night.is_blank:
        return None
    return ProfileKeeper(
        name,
        unit,
        night_values(settings.cameras[name]),
        basis=profiles.switch,
        light=_light(settings, profiles.switch, unit),
        changed=changed,
    )


def _light(settings: Settings, switch: str, unit: CameraUnit) -> LightGauge | None:
    latitude, longitude = settings.location.latitude, settings.location.longitude
    if switch == "sun" and latitude is not None and longitude is not None:

        async def elevation() -> float:
            return sun_elevation(latitude, longitude, datetime.now(UTC))

        return LightGauge(
            limits=SUN,
            every_s=SUN_EVERY_S,
            read=elevation,
            words=lambda degrees: f"the sun stands at {degrees:.1f}°",
        )
    if switch == "picture":
        return LightGauge(
            limits=COLOUR,
            every_s=COLOUR_EVERY_S,
            read=partial(unit.look, colour_share),
            words=lambda share: f"{share:.1%} of the picture has colour",
        )
    return None
