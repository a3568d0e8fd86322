"""Rules across keys: values that are valid alone but contradict each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from async_motion.settings.addresses import is_loopback
from async_motion.settings.places import Place
from async_motion.settings.tree import (
    CameraSettings,
    DetectSettings,
    MinioSettings,
    Polygon,
    Settings,
    TlsSettings,
    WebSettings,
    WebTlsSettings,
)
from async_motion.settings.values import shown

GRID = 100
"""Masks and zones are sampled at the centres of a grid of `GRID` x `GRID` cells."""

Cell = tuple[int, int]

PROCESS_NEEDS = 128 * 2**20
"""Bytes that a capture process needs besides its packets: Python, its libraries, a small frame."""


def contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield (place, message) for values that are valid alone but contradict each other."""
    yield from _store_contradictions(settings.minio)
    yield from _mqtt_contradictions(settings)
    yield from _web_contradictions(settings.web)
    yield from _fleet_contradictions(settings)
    yield from _alone(("location",), settings.location, "latitude", "longitude")
    yield from _collisions(("cameras",), settings.cameras)
    yield from _former_names(settings.cameras)
    placed = settings.location.latitude is not None or settings.location.longitude is not None
    for name, camera in settings.cameras.items():
        yield from _camera_contradictions(("cameras", name), camera)
        if camera.profiles.switch == "sun" and not placed:
            yield (
                ("cameras", name, "profiles", "switch"),
                "sun without a place, expected `location.latitude` and `location.longitude` with it",
            )


def _alone(place: Place, section: object, one: str, other: str) -> Iterator[tuple[Place, str]]:
    """Yield a problem if only one of two settings that belong together is set."""
    if (getattr(section, one) is None) != (getattr(section, other) is None):
        there, missing = (one, other) if getattr(section, other) is None else (other, one)
        yield (*place, there), f"set alone, expected `{missing}` with it"


def _store_contradictions(minio: MinioSettings) -> Iterator[tuple[Place, str]]:
    if minio.endpoint is not None and minio.credentials == "static":
        for key in ("access_key", "secret_key"):
            if not getattr(minio, key):
                variable = f"MINIO_{key.upper()}"
                yield (
                    ("minio", key),
                    (
                        "blank though `endpoint` is set, expected the uploader's key here, in "
                        f"{variable} or in {variable}_FILE, or `credentials: env` or `aws`"
                    ),
                )
    if (minio.credentials == "aws-secret") != (minio.secret_name is not None):
        there, other = (
            ("secret_name", "credentials: aws-secret")
            if minio.secret_name is not None
            else ("credentials", "secret_name")
        )
        yield ("minio", there), f"set alone, expected `{other}` with it"
    yield from _tls_contradictions(("minio",), minio, on=minio.secure, switch="secure: true")


def _mqtt_contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    mqtt = settings.mqtt
    yield from _tls_contradictions(("mqtt", "tls"), mqtt.tls, on=mqtt.tls.enabled, switch="enabled: true")
    if mqtt.password is not None and mqtt.username is None:
        yield ("mqtt", "password"), "set alone, expected `username` with it"
    if mqtt.frigate_topic == f"{mqtt.base_topic}/{settings.instance}":
        yield ("mqtt", "frigate_topic"), "is this instance's own topic, expected another"


def _former_names(cameras: Mapping[str, CameraSettings]) -> Iterator[tuple[Place, str]]:
    former: dict[str, str] = {}
    for name, camera in cameras.items():
        was = camera.renamed_from
        if was is not None and (was in cameras or former.setdefault(was, name) != name):
            yield ("cameras", name, "renamed_from"), f"`{was}` is another camera's, expected a former name"


def _tls_contradictions(
    place: Place,
    files: MinioSettings | TlsSettings | WebTlsSettings,
    *,
    on: bool = True,
    switch: str = "",
) -> Iterator[tuple[Place, str]]:
    if not on:
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(files, key) is not None:
                yield (*place, key), f"set though TLS is off, expected `{switch}` with it"
    else:
        yield from _alone(place, files, "cert_file", "key_file")


def _web_contradictions(web: WebSettings) -> Iterator[tuple[Place, str]]:
    yield from _tls_contradictions(("web", "tls"), web.tls)
    if web.tls.ca_file is not None and web.tls.cert_file is None:
        yield ("web", "tls", "ca_file"), "set though TLS is off, expected `cert_file` and `key_file` with it"
    if web.token is None and not is_loopback(web.host):
        yield (
            ("web", "host"),
            (
                f"{shown(web.host)} can be reached from other machines, expected `web.token` with it, "
                "or 127.0.0.1"
            ),
        )
    if web.viewer_token is not None and web.token is None:
        yield ("web", "viewer_token"), "set alone, expected `token` with it, which is the admin's"
    if web.viewer_token is not None and web.viewer_token == web.token:
        yield ("web", "viewer_token"), "is the same as `token`, expected another"
    if web.remote_user != "none" and not web.trusted_proxies:
        yield ("web", "remote_user"), "set alone, expected `trusted_proxies` with it"
    if any(network.prefixlen == 0 for network in web.trusted_proxies):
        yield ("web", "trusted_proxies"), "trusts every address, expected those of your proxies"
    yield from _alone(("web", "store"), web.store, "access_key", "secret_key")


def _fleet_contradictions(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Yield a problem for each setting that workers on different hosts must share but that is blank."""
    fleet = settings.fleet
    yield from _alone(("fleet", "tls"), fleet.tls, "cert_file", "key_file")
    if not fleet.servers:
        return
    for place, blank, what in (
        (("instance",), "instance" not in settings.model_fields_set, "the name that all workers share"),
        (("mqtt", "host"), settings.mqtt.host is None, "the broker that all workers share"),
        (("minio", "endpoint"), settings.minio.endpoint is None, "the store that all workers share"),
    ):
        if blank:
            yield place, f"blank though `fleet.servers` is set, expected {what}"


def _collisions(place: Place, names: Iterable[str]) -> Iterator[tuple[Place, str]]:
    """Yield the names that Home Assistant and environment variables cannot tell apart."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(re.sub(r"[-_]+", "_", name).strip("_"), name)
        if other != name:
            yield (*place, name), f"differs from `{other}` in - and _ alone, expected another name"


def _shape_contradictions(place: Place, detect: DetectSettings) -> Iterator[tuple[Place, str]]:
    """Yield masks that leave nothing to watch, and zones that no motion can touch."""
    masked = frozenset(cell for mask in detect.masks for cell in _cells(mask))
    if len(masked) == GRID * GRID:
        yield (*place, "masks"), "cover the whole image, expected a part of it left to watch"
        return
    for name, zone in detect.zones.items():
        cells = set(_cells(zone.polygon))
        where = (*place, "zones", name, "polygon")
        if not cells:
            yield where, "too small, expected at least a hundredth of the image's width and height"
        elif cells <= masked:
            yield where, "lies under the masks, expected a part of it left to watch"


def _cells(polygon: Polygon) -> Iterator[Cell]:
    """Yield the cells (column, row), each 0..GRID - 1, whose centres lie within a polygon."""
    left, right = (math.floor(GRID * edge(x for x, _ in polygon)) for edge in (min, max))
    top, bottom = (math.floor(GRID * edge(y for _, y in polygon)) for edge in (min, max))
    for row in range(top, min(bottom, GRID - 1) + 1):
        for column in range(left, min(right, GRID - 1) + 1):
            if _holds(polygon, (column + 0.5) / GRID, (row + 0.5) / GRID):
                yield column, row


def _holds(polygon: Polygon, x: float, y: float) -> bool:
    """Return whether a point lies within a polygon, by the even-odd rule."""
    inside = False
    for (x0, y0), (x1, y1) in pairwise((*polygon, polygon[0])):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


def _camera_contradictions(place: Place, camera: CameraSettings) -> Iterator[tuple[Place, str]]:
    detect, event, profiles = camera.detect, camera.event, camera.profiles
    yield from _shape_contradictions((*place, "detect"), detect)
    yield from _collisions((*place, "detect", "zones"), detect.zones)
    if profiles.switch != "manual" and profiles.night.is_blank:
        yield (
            (*place, "profiles", "switch"),
            f"{profiles.switch}, but `night` is blank, expected a value in `night`",
        )
    if profiles.night.min_area is not None and profiles.night.min_area >= detect.max_area:
        yield (
            (*place, "profiles", "night", "min_area"),
            "not below `detect.max_area`, expected a smaller share",
        )
    if detect.min_area >= detect.max_area:
        yield (*place, "detect", "min_area"), "not below `max_area`, expected a smaller share"
    if detect.min_area_far is not None and detect.min_area_far > detect.min_area:
        yield (
            (*place, "detect", "min_area_far"),
            "more than `min_area`, expected a smaller share: what is far looks smaller",
        )
    for name, zone in detect.zones.items():
        if zone.min_area is not None and zone.min_area >= detect.max_area:
            yield (
                (*place, "detect", "zones", name, "min_area"),
                "not below the camera's `max_area`, expected a smaller share",
            )
    capture = camera.capture
    rings = (capture.decode == "auto") + (camera.record_source is not None)
    if capture.isolation == "process" and rings * capture.ring_bytes + PROCESS_NEEDS > capture.process_memory:
        kept = "two rings" if rings > 1 else "a ring"
        yield (
            (*place, "capture", "process_memory"),
            (
                f"leaves less than {PROCESS_NEEDS // 2**20}MiB beside {kept} of `ring_bytes`, "
                "expected more memory or a smaller ring"
            ),
        )
    if camera.record_source is not None and event.pre > camera.capture.ring_seconds:
        yield (
            (*place, "event", "pre"),
            "reaches back further than `capture.ring_seconds`, expected a shorter time or a longer ring",
        )
