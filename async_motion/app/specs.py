"""Convert settings into the plain values that each package takes. Pure: nothing is built here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from async_motion.camera.detector_state import fingerprint
from async_motion.camera.spec import UnitSettings
from async_motion.capture import CaptureSpec
from async_motion.core.detection.detector import DetectorSettings
from async_motion.core.detection.zones import Zone
from async_motion.core.events.selection import PolicySettings
from async_motion.core.events.tracker import TrackerSettings
from async_motion.core.names import Topics
from async_motion.settings import CameraSettings, Settings
from async_motion.tls import TlsFiles


def topics(settings: Settings) -> Topics:
    """Return the topics of this instance."""
    return Topics(f"{settings.mqtt.base_topic}/{settings.instance}")


def store_name(settings: Settings) -> str:
    """Return the store's name for logs and people."""
    minio = settings.minio
    if minio.endpoint is None:
        return f"directory {settings.directory.path}"
    return f"{'https' if minio.secure else 'http'}://{minio.endpoint}, bucket {minio.bucket}"


def store_tls(settings: Settings) -> TlsFiles:
    """Return the TLS files for the connection to the store."""
    minio = settings.minio
    return _tls_files(minio.ca_file, minio.cert_file, minio.key_file)


def broker_tls(settings: Settings) -> TlsFiles:
    """Return the TLS files for the connection to the broker."""
    tls = settings.mqtt.tls
    return _tls_files(tls.ca_file, tls.cert_file, tls.key_file, insecure=tls.insecure)


def web_tls(settings: Settings) -> TlsFiles:
    """Return the TLS files of the pages' server."""
    tls = settings.web.tls
    return _tls_files(tls.ca_file, tls.cert_file, tls.key_file)


def _tls_files(ca: Path | None, cert: Path | None, key: Path | None, *, insecure: bool = False) -> TlsFiles:
    ca_file, cert_file, key_file = (str(path) if path is not None else None for path in (ca, cert, key))
    return TlsFiles(ca_file=ca_file, cert_file=cert_file, key_file=key_file, insecure=insecure)


def summary(settings: Settings) -> str:
    """Return one line with the settings' cameras, store and broker, without secrets."""
    cameras = ", ".join(name for name, camera in settings.cameras.items() if camera.enabled) or "none"
    mqtt = settings.mqtt
    broker = f"{mqtt.host}:{mqtt.port}" if mqtt.host else "embedded"
    return f"{settings.origin}; cameras: {cameras}; store: {store_name(settings)}; broker: {broker}"


def capture_spec(name: str, camera: CameraSettings) -> CaptureSpec:
    """Return the capture settings of a camera."""
    capture = camera.capture
    return CaptureSpec(
        camera=name,
        source=camera.source.get_secret_value(),
        record_source=camera.record_source.get_secret_value() if camera.record_source else None,
        fps=camera.detect.fps,
        transport=capture.transport,
        decode=capture.decode,
        hwaccel=capture.hwaccel,
        open_timeout_s=capture.open_timeout,
        stall_timeout_s=capture.stall_timeout,
        max_pixels=capture.max_pixels,
        speed=capture.speed,
        loop=capture.loop,
        ring_bytes=capture.ring_bytes,
        ring_seconds=capture.ring_seconds,
        threads=capture.threads,
        isolation=capture.isolation,
        process_memory=capture.process_memory,
    )


def detector_settings(camera: CameraSettings, *, night: bool = False) -> DetectorSettings:
    """Return the detector's settings for a camera, for day or night."""
    detect = camera.detect
    zones = (
        Zone(name=name, polygon=zone.polygon, sensitivity=zone.sensitivity, min_area=zone.min_area)
        for name, zone in detect.zones.items()
    )
    by_day = DetectorSettings(
        sensitivity=detect.sensitivity,
        threshold=detect.threshold,
        noise_factor=detect.noise_factor,
        strong_share=detect.strong_share,
        unrest_factor=detect.unrest_factor,
        learning_s=detect.learning,
        rest_s=detect.rest,
        min_area=detect.min_area,
        min_area_far=detect.min_area_far,
        horizon=detect.horizon,
        max_area=detect.max_area,
        masks=detect.masks,
        zones=tuple(zones),
    )
    return replace(by_day, **night_values(camera)) if night else by_day


def unit_settings(
    settings: Settings, name: str, *, worker: str | None = None, epoch: int | None = None
) -> UnitSettings:
    """Return how a camera's frames become events and records; `worker` and `epoch` are its lease's."""
    camera = settings.cameras[name]
    event = camera.event
    return UnitSettings(
        instance=settings.instance,
        camera=name,
        prefix=settings.minio.prefix,
        detecting=camera.detect.enabled,
        detection=detector_settings(camera),
        tracking=TrackerSettings(
            confirm=(event.confirm.hits, event.confirm.of),
            off_delay_s=event.off_delay,
            max_length_s=event.max_length,
            cool_down_s=event.cool_down,
        ),
        policy=PolicySettings(
            keep=event.frames.kind, every_s=event.frames.every_s or 1.0, max_frames=event.max_frames
        ),
        pre_s=event.pre,
        pre_bytes=event.pre_bytes,
        worker=worker,
        epoch=epoch,
    )


def scene_of(camera: CameraSettings) -> str:
    """Return a hash of a camera's source: saved detector state is valid only for the same scene."""
    return fingerprint(camera.source.get_secret_value())


def night_values(camera: CameraSettings) -> dict[str, Any]:
    """Return the settings that the night overrides. A night sensitivity also resets the day's threshold."""
    night = camera.profiles.night
    values: dict[str, Any] = {}
    if night.sensitivity is not None:
        values |= {"sensitivity": night.sensitivity, "threshold": None}
    if night.threshold is not None:
        values["threshold"] = night.threshold
    if night.min_area is not None:
        values["min_area"] = night.min_area
    return values


def watched_zones(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the zone names of each enabled camera."""
    return {name: tuple(camera.detect.zones) for name, camera in settings.cameras.items() if camera.enabled}
