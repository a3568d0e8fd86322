"""Turn the settings into a ScanSpec for each camera. Nothing is opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from async_motion.app.specs import unit_settings
from async_motion.core.options import DEMO_SOURCE, Decode
from async_motion.scan.model import Recording, ScanSpec, digest_of
from async_motion.settings import Settings, camera_of


def specs_for(
    settings: Settings,
    recordings: Iterable[Recording],
    *,
    decode: Decode,
    threads: int,
    store: bool = False,
    out: Path | None = None,
    stills: bool = False,
    video: bool = False,
) -> dict[str, ScanSpec]:
    """Return a ScanSpec for each camera of the recordings, by name."""
    found = list(recordings)
    remote = store or any(recording.is_remote for recording in found)
    specs = {}
    for name in sorted({recording.camera for recording in found}):
        travelling = _travelling(settings, name, remote=remote)
        camera = travelling.cameras[name]
        capture = camera.capture
        specs[name] = ScanSpec(
            settings=travelling,
            camera=name,
            decode=decode,
            threads=threads,
            store=store,
            out=None if out is None else out.absolute(),
            stills=stills,
            video=video,
            fingerprint=digest_of(
                [
                    repr(unit_settings(travelling, name)),
                    repr(camera.jpeg),
                    [camera.detect.fps, decode, capture.max_pixels, capture.ring_bytes, capture.ring_seconds],
                ]
            ),
        )
    return specs


def _travelling(settings: Settings, name: str, *, remote: bool) -> Settings:
    """Return the part of the settings that a scan of this camera needs, with absolute paths.

    It is sent to other processes and machines, so it holds no camera's address and no secret of the broker
    or the pages; the store's credentials only if `remote`. A camera that is not in the settings gets the
    defaults.
    """
    blank = camera_of(DEMO_SOURCE)
    camera = settings.cameras.get(name, blank)
    camera = camera.model_copy(
        update={
            "source": blank.source,
            "record_source": None,
            "detect": camera.detect.model_copy(update={"enabled": True}),
        }
    )
    minio, directory = settings.minio, settings.directory
    if not remote:
        minio = type(minio)(prefix=minio.prefix)
    return settings.model_copy(
        update={
            "cameras": {name: camera},
            "minio": minio,
            "directory": directory.model_copy(update={"path": directory.path.absolute()}),
            "mqtt": type(settings.mqtt)(),
            "web": type(settings.web)(),
        }
    )
