"""Which settings are secret, and which are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from async_motion.logs import Mask
from async_motion.settings import load
from async_motion.settings.secrets import names_in, secrets_in, secrets_in_address


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://user:geheim12@cam/stream",
        "RTSP://user:geheim12@cam:554/Streaming/Channels/101",
        "rtsp://:geheim12@cam",
        "rtsp://geheim12@cam/stream",
        "rtsp://user:geheim12%40geheim12@cam/stream",
        "http://cam/shot.jpg?channel=2&pwd=geheim12",
        "http://cam/shot.jpg?geheim12",
        "http://cam/videostream.cgi?loginuse=admin&loginpas=geheim12",
        "http://cam/cam/realmonitor?channel=1&p=geheim12&u=x",
        "http://cam/live;token=geheim12;x",
        "rtsp://cam/user=admin&password=geheim12/ch1",
        "rtsp://cam/user=admin_password=geheim12_channel=1_stream=0.sdp?real_stream",
        "rtsp://[::1]:554/password=geheim12",
        "http://cam/login/admin/pwd/geheim12/ch1",
        "http://cam/geheim1212345678/live.mjpg",
        "rtsp://cam/stream#geheim12",
        "http://cam/a?X-Amz-Credential=key&X-Amz-Signature=geheim12&x=1",
    ],
)
def test_an_address_hides_its_secrets_wherever_they_stand(source: str) -> None:
    mask = Mask(list(secrets_in_address(source)))
    alone = max(re.findall(r"geheim[\w%]+", source), key=len)
    alone = alone.partition("_")[0]
    for said in (source, f"GET {source.partition('cam')[2] or source}", f"the answer holds {alone} alone"):
        assert "geheim" not in mask.hide(said)


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("rtsp://user:p%40ss+w%20d@cam/stream", {"p%40ss+w%20d", "p@ss+w d"}),
        ("http://cam/shot.jpg?pwd=a%26b+cd", {"a%26b+cd", "a&b+cd", "a&b cd"}),
    ],
)
def test_a_secret_is_hidden_as_written_and_as_decoded(source: str, hidden: set[str]) -> None:
    assert hidden <= set(secrets_in_address(source))


@pytest.mark.parametrize(
    "source",
    ["demo:", "/srv/porch=1/2026-11-29T10-00-00.mp4", "rtsp://cam/stream", "rtsp://cam/live?channel=12345"],
)
def test_what_is_harmless_alone_is_not_hidden(source: str) -> None:
    mask = Mask(list(secrets_in_address(source)))
    for said in ("/srv/porch=1/2026-11-29T10-00-00.mp4", "stream", "live", "cam", "channel", "12345"):
        assert mask.hide(said) == said


def test_an_address_that_cannot_be_parsed_is_hidden_as_a_whole() -> None:
    assert list(secrets_in_address("rtsp://u:p[w]@cam/x")) == ["rtsp://u:p[w]@cam/x"]


def test_every_secret_of_a_file_is_found_at_its_key(tmp_path: Path) -> None:
    path = tmp_path / "variables.yaml"
    path.write_text(
        "minio: {endpoint: s3:9000, access_key: uploader, secret_key: s3-secret}\n"
        "mqtt: {host: broker, username: edge, password: mqtt-secret}\n"
        "cameras: {porch: {source: 'rtsp://user:cam-secret@cam/stream'}}\n"
    )
    settings = load(path, {})
    found = {text: place for place, text in secrets_in(settings) if text}
    assert found["s3-secret"] == "minio.secret_key"
    assert found["mqtt-secret"] == "mqtt.password"
    assert found["cam-secret"] == "cameras.porch.source"
    names = set(names_in(settings))
    assert {"s3:9000", "broker", "porch"} <= names
    assert not names & found.keys()
