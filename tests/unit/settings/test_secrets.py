"""Which settings are secret, and which are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.settings import load
from async_motion.settings.secrets import names_in, secrets_in, secrets_in_address


@pytest.mark.parametrize(
    ("source", "hidden"),
    [
        ("demo:", set()),
        ("/srv/clips/porch.mp4", set()),
        ("rtsp://cam/stream", set()),
        ("rtsp://user:p%40ss@cam/stream", {"p%40ss", "p@ss"}),
        ("http://cam/shot.jpg?channel=2&pwd=abc", {"channel=2&pwd=abc", "abc"}),
        ("rtsp://cam/user=admin&password=abc/ch1", {"abc"}),
    ],
)
def test_an_address_hides_its_login_and_its_query(source: str, hidden: set[str]) -> None:
    assert set(secrets_in_address(source)) - {""} == hidden


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
