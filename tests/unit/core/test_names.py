"""Ids, object keys and topics as designed; and that no secret of an address reaches a log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_motion.core import names
from async_motion.core.names import Topics

AT = datetime(2026, 11, 22, 7, 31, 12, 345678, tzinfo=UTC)
EVENT = "20261122T073112345Z-7c1e9a"
TOPICS = Topics("async_motion/edge1")

EARLIEST, LATEST = datetime(1970, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - the zone is given apart
moments = st.datetimes(
    min_value=EARLIEST,
    max_value=LATEST,
    timezones=st.just(UTC),
)


@pytest.mark.parametrize("name", ["a", "porch", "cam-1_b", "0", "x" * 64])
def test_what_may_name_a_camera(name: str) -> None:
    assert names.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "Porch", "a/b", "a b", "a.b", "a+", "#", "ä", "x" * 65, "a\n", "..", "porch\x00"]
)
def test_what_may_not(name: str) -> None:
    assert not names.is_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("porch", "porch"),
        ("Front Door", "front-door"),
        ("host.example.org", "host-example-org"),
        ("Café Zürich", "cafe-zurich"),
        ("a/../b", "a-b"),
        ("", "async-motion"),
        ("日本", "async-motion"),
        ("---", "async-motion"),
    ],
)
def test_slugs(text: str, expected: str) -> None:
    assert names.slug(text) == expected


@given(st.text())
def test_a_slug_is_always_a_name_and_stays_as_it_is(text: str) -> None:
    slug = names.slug(text)
    assert names.is_name(slug)
    assert names.slug(slug) == slug or slug.endswith("-")


def test_an_event_id_says_when_the_event_began() -> None:
    assert names.event_id(AT, 0x7C1E9A) == EVENT
    assert names.EVENT_ID.fullmatch(EVENT)


def test_an_event_id_is_in_utc_wherever_the_camera_is() -> None:
    there = AT.astimezone(timezone(timedelta(hours=13, minutes=45)))
    assert names.event_id(there, 0x7C1E9A) == EVENT


def test_only_24_bits_of_the_randomness_are_used() -> None:
    assert names.event_id(AT, 0xFFF7C1E9A) == EVENT
    assert names.event_id(AT, 5).endswith("Z-000005")


@given(moments, moments, st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1))
def test_event_ids_sort_by_time(one: datetime, other: datetime, bits: int, other_bits: int) -> None:
    first, second = names.event_id(one, bits), names.event_id(other, other_bits)
    assert names.EVENT_ID.fullmatch(first)
    if other - one >= timedelta(milliseconds=1):
        assert first < second


def test_object_keys_are_as_the_design_says() -> None:
    folder = names.event_folder("", "edge1", "porch", EVENT)
    assert folder == f"edge1/porch/2026/11/22/{EVENT}/"
    assert names.frame_key(folder, 3) == f"edge1/porch/2026/11/22/{EVENT}/000003.jpg"
    assert names.event_key(folder) == f"edge1/porch/2026/11/22/{EVENT}/event.json"
    assert names.event_folder("site/", "edge1", "porch", EVENT) == "site/" + folder


def test_a_key_stays_in_order_and_whole_beyond_a_million_frames() -> None:
    assert names.frame_key("f/", 999_999) == "f/999999.jpg"
    assert names.frame_key("f/", 1_000_000) == "f/1000000.jpg"


def test_topics_are_as_the_design_says() -> None:
    base = "async_motion/edge1"
    assert TOPICS.status == f"{base}/status"
    assert TOPICS.state == f"{base}/state"
    assert TOPICS.camera_status("porch") == f"{base}/porch/status"
    assert TOPICS.motion("porch") == f"{base}/porch/motion"
    assert TOPICS.zone_motion("porch", "drive") == f"{base}/porch/zone/drive/motion"
    assert TOPICS.frame("porch") == f"{base}/porch/frame"
    assert TOPICS.event("porch") == f"{base}/porch/event"
    assert TOPICS.snapshot("porch") == f"{base}/porch/snapshot"
    assert TOPICS.snapshot_attributes("porch") == f"{base}/porch/snapshot/attributes"
    assert TOPICS.snapshot_frame("porch") == f"{base}/porch/snapshot/frame"
    assert TOPICS.camera_state("porch") == f"{base}/porch/state"
    for setting in names.SETTINGS:
        assert TOPICS.setting("porch", setting) == f"{base}/porch/{setting}"
        assert TOPICS.command("porch", setting) == f"{base}/porch/{setting}/set"
    assert TOPICS.commands == f"{base}/+/+/set"


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("async_motion/edge1/porch/detection/set", ("porch", "detection")),
        ("async_motion/edge1/porch/snapshot/set", ("porch", "snapshot")),
        ("async_motion/edge1/porch/detection", None),
        ("async_motion/edge1/porch/set", None),
        ("async_motion/edge1/porch/zone/drive/set", None),
        ("async_motion/edge10/porch/detection/set", None),
        ("async_motion/edge1", None),
        ("other/edge1/porch/detection/set", None),
        ("", None),
    ],
)
def test_commands_are_told_from_all_else(topic: str, expected: tuple[str, str] | None) -> None:
    assert TOPICS.parse_command(topic) == expected


@given(st.text(alphabet="abc/+#", max_size=20))
def test_any_command_that_is_made_is_understood(camera: str) -> None:
    topic = TOPICS.command(camera, "detection")
    if "/" not in camera:
        assert TOPICS.parse_command(topic) == (camera, "detection")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pass@192.0.2.10/stream2", "rtsp://***@192.0.2.10/…"),
        ("rtsp://user@192.0.2.10:554/a", "rtsp://***@192.0.2.10:554/…"),
        ("http://cam/video?user=a&pwd=b", "http://cam/…"),
        ("http://cam/video#token", "http://cam/…"),
        ("rtsp://192.0.2.10/user=admin&password=s3cret&channel=1", "rtsp://192.0.2.10/…"),
        ("rtsp://192.0.2.10:554//s3cret/live", "rtsp://192.0.2.10:554/…"),
        ("http://192.0.2.10?pwd=s3cret", "http://192.0.2.10/…"),
        ("http://192.0.2.10/", "http://192.0.2.10"),
        ("rtsp://u:p@[2001:db8::1]:554/a", "rtsp://***@[2001:db8::1]:554/…"),
        ("rtsp://192.0.2.10/stream2", "rtsp://192.0.2.10/…"),
        ("rtsp://u:p@ss@192.0.2.10/a", "rtsp://***@192.0.2.10/…"),
        ("rtsp://u:12/34@192.0.2.10/a", "rtsp://***@192.0.2.10/…"),
        ("rtsp://u:12#34@192.0.2.10/a", "rtsp://***@192.0.2.10/…"),
        ("rtsp://u:12?34@192.0.2.10/a", "rtsp://***@192.0.2.10/…"),
        ("rtsp://u:p@host:notaport/a", "(unreadable address)"),
        ("rtsp://u:p@[broken/a", "(unreadable address)"),
        ("user:secret@somewhere", "(unreadable address)"),
        ("/videos/clip.mp4", "/videos/clip.mp4"),
        ("/dev/video0", "/dev/video0"),
        ("usb:0", "usb:0"),
        ("demo:", "demo:"),
    ],
)
def test_no_secret_of_an_address_is_shown(url: str, shown: str) -> None:
    assert names.redact_url(url) == shown


@given(
    st.sampled_from(["rtsp", "http", "https"]),
    st.text(alphabet="abc:@/?#%[]1", max_size=10),
    st.text(alphabet="abc:@/?#%[]1", max_size=10),
    st.sampled_from(["cam", "192.0.2.1", "192.0.2.1:554", "[::1]"]),
    st.sampled_from(["", "/", "/live", "/live?pwd=s3cr3tSECRET"]),
)
def test_a_password_never_shows(scheme: str, user: str, noise: str, host: str, path: str) -> None:
    for secret in (f"{noise}s3cr3tSECRET", f"s3cr3tSECRET{noise}"):
        assert "3cr3t" not in names.redact_url(f"{scheme}://{user}:{secret}@{host}{path}").lower()
        assert "3cr3t" not in names.redact_url(f"{scheme}://{secret}@{host}{path}").lower()
        assert "3cr3t" not in names.redact_url(f"{scheme}://{host}/{secret.replace('@', '')}{path}").lower()


def test_what_distinguishes_addresses_is_not_a_login() -> None:
    one = names.place_of_url("rtsp://u:p@192.0.2.1/a?channel=1")
    assert one == names.place_of_url("rtsp://u:q@192.0.2.1/a?channel=2")
    assert one != names.place_of_url("rtsp://u:p@192.0.2.1/b?channel=1")
    assert names.place_of_url("/videos/a.mp4") == "/videos/a.mp4"
