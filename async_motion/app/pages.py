"""Build the web pages' views of the running service: live frames, archive, cameras, access."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

from async_motion import __version__
from async_motion.app import specs
from async_motion.app.buckets import build_bucket, build_events
from async_motion.app.editor import FileEditor
from async_motion.app.upkeep import SpoolUpkeep
from async_motion.camera.unit import CameraUnit, Observer
from async_motion.core.detection.background import NOISE_UNIT
from async_motion.core.detection.working_image import Plane
from async_motion.core.model import Detection, Frame, FrameInfo, Image, MotionEvent, SceneChange
from async_motion.errors import ImageError
from async_motion.jpeg import encode, heat
from async_motion.retrieval.clips import make_clip
from async_motion.retrieval.images import image_of
from async_motion.retrieval.removal import delete
from async_motion.settings import CameraSettings, Settings
from async_motion.web import Archive, CameraFacts, Guard, Live, Role, Site, Thumbnails, Web, ZoneFacts

if TYPE_CHECKING:
    from async_motion.app.buckets import AnyReader

QUALITY = 75
"""JPEG quality (1..100) of images that are shown, not stored."""

MAX_CACHED_LINES = 16_384
"""Events whose index lines stay parsed between requests, 1 KiB each: ten days of 1,500."""


class Watched:
    """Passes cameras' observations on to the reporter and to live viewers."""

    def __init__(self, reporter: Observer, live: Live) -> None:
        self.reporter = reporter
        self.live = live

    def camera_online(self, camera: str) -> None:
        self.reporter.camera_online(camera)
        self.live.online(camera)

    def camera_offline(self, camera: str, problem: str) -> None:
        self.reporter.camera_offline(camera, problem)
        self.live.offline(camera)

    def motion(self, camera: str, on: bool) -> None:
        self.reporter.motion(camera, on)
        self.live.motion(camera, on)

    def zone_motion(self, camera: str, zone: str, on: bool) -> None:
        self.reporter.zone_motion(camera, zone, on)

    def detected(self, camera: str, detection: Detection) -> None:
        self.reporter.detected(camera, detection)

    def scene_changed(self, camera: str, kind: SceneChange) -> None:
        self.reporter.scene_changed(camera, kind)

    def event_started(self, event: MotionEvent) -> None:
        self.reporter.event_started(event)
        self.live.event_started(event)

    def event_ended(self, event: MotionEvent) -> None:
        self.reporter.event_ended(event)
        self.live.event_ended(event)

    def dropped(self, camera: str, reason: str, count: int) -> None:
        self.reporter.dropped(camera, reason, count)

    def problem(self, camera: str, problem: str | None) -> None:
        self.reporter.problem(camera, problem)


def build_live(
    settings: Settings, executor: Executor, unit: Callable[[str], CameraUnit | None] = lambda _: None
) -> Live:
    """Return the live view. `unit` returns a running camera's unit, or None."""

    async def render(camera: str, layer: str) -> bytes | None:
        running = unit(camera)
        plane = (await running.maps()).get(layer) if running is not None else None
        if plane is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(executor, layer_jpeg, layer, plane)

    return Live(encode=preview_jpeg, executor=executor, max_viewers=settings.web.max_viewers, layers=render)


def layer_jpeg(layer: str, plane: Plane) -> bytes:
    """Return a detector's plane (H, W) as a JPEG: the background in grey, other layers as a heat map.

    Blocks. Raises ImageError.
    """
    if layer == "background":
        return encode(plane, QUALITY)[0]
    # Noise is in units of 1 / NOISE_UNIT grey level: ten grey levels fill the scale.
    return encode(heat(plane, 255 / (10 * NOISE_UNIT) if layer == "noise" else 1.0), QUALITY)[0]


def preview_jpeg(frame: Frame, width: int) -> bytes:
    """Return a frame of the watched stream as a JPEG at most `width` wide. Blocks. Raises ImageError."""
    image = (frame.preview or frame.bgr)()
    return encode(image, QUALITY, width)[0]


def build_archive(settings: Settings, bucket: AnyReader, executor: Executor) -> Archive:
    """Return the pages' view of the stored events in an opened bucket."""
    reader = build_events(settings, bucket, max_cached_lines=MAX_CACHED_LINES)
    return Archive(
        reader=reader,
        thumbnails=Thumbnails(thumbnail, executor),
        make_clip=lambda frames, read, target: make_clip(frames, partial(_image, read), target),
        delete=lambda event: delete(reader, [event]),
    )


def build_page_bucket(settings: Settings) -> AnyReader:
    """Return the bucket with the pages' own key if the settings name one, else with the uploader's."""
    store = settings.web.store
    if store.access_key is None or store.secret_key is None:
        return build_bucket(settings)
    return build_bucket(settings, key=(store.access_key, store.secret_key.get_secret_value()))


def thumbnail(jpeg: bytes, width: int) -> bytes:
    """Return a stored frame as a JPEG at most `width` wide. Blocks. Raises ImageError."""
    return encode(image_of(jpeg, width), QUALITY, width)[0]


def _image(read: Callable[[FrameInfo], bytes | None], frame: FrameInfo) -> Image | None:
    jpeg = read(frame)
    try:
        return image_of(jpeg) if jpeg is not None else None
    except ImageError:
        return None


def build_web(
    settings: Settings,
    *,
    snapshot: Callable[[], Mapping[str, Any]],
    live: Live,
    archive: Archive | None,
    editor: FileEditor | None,
) -> Web:
    """Return the web server of the running service's pages."""
    web = settings.web
    guard = Guard(
        host=web.host,
        instance=settings.instance,
        token=web.token.get_secret_value() if web.token else None,
        viewer_token=web.viewer_token.get_secret_value() if web.viewer_token else None,
        trusted_proxies=web.trusted_proxies,
        remote_user=Role[web.remote_user.upper()],
    )
    site = Site(
        instance=settings.instance,
        version=__version__,
        snapshot=snapshot,
        cameras=lambda: camera_facts(editor.settings if editor is not None else settings),
        live=live,
        archive=archive,
        editor=editor,
        upkeep=SpoolUpkeep(settings),
    )
    tls = specs.web_tls(settings) if web.tls.cert_file is not None else None
    return Web(host=web.host, port=web.port, guard=guard, site=site, tls=tls)


def camera_facts(settings: Settings) -> dict[str, CameraFacts]:
    """Return the settings of each camera that the pages show, by name."""
    return {name: _facts(name, camera) for name, camera in settings.cameras.items()}


def _facts(name: str, camera: CameraSettings) -> CameraFacts:
    detect = camera.detect
    return CameraFacts(
        title=camera.name or name,
        enabled=camera.enabled,
        min_area=detect.min_area,
        min_area_far=detect.min_area_far,
        max_area=detect.max_area,
        horizon=detect.horizon,
        masks=detect.masks,
        zones={
            zone: ZoneFacts(
                polygon=values.polygon,
                title=values.name,
                sensitivity=values.sensitivity,
                min_area=values.min_area,
            )
            for zone, values in detect.zones.items()
        },
    )
