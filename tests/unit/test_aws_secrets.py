"""Secrets from moto's Secrets Manager, with boto3 as a service uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_motion.aws_secrets import fetch, fields_of
from async_motion.errors import SecretUnavailable
from tests.support.moto import Moto
from tests.support.ports import free_port

SECRET = "text-that-no-message-holds"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(autouse=True)
def environment(server: Moto, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    allowed = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": ["*"]}],
    }
    for key, value in server.environment(server.make_user(f"user-{tmp_path.name}", allowed)).items():
        monkeypatch.setenv(key, value)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def test_a_secret_by_its_name_and_by_its_arn(server: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = server.put_secret("edge/mqtt", SECRET)
    assert fetch("edge/mqtt") == SECRET

    # An ARN names its region.
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert fetch(arn) == SECRET
    with pytest.raises(SecretUnavailable, match="edge/mqtt: You must specify a region"):
        fetch("edge/mqtt")


def test_a_rotated_secret_is_seen(server: Moto) -> None:
    server.put_secret("edge/rotated", "first")
    assert fetch("edge/rotated") == "first"
    server.put_secret("edge/rotated", "second")
    assert fetch("edge/rotated") == "second"


def test_what_is_missing_or_no_text_is_said_with_the_secrets_name(server: Moto) -> None:
    with pytest.raises(SecretUnavailable, match="edge/none: ResourceNotFoundException: "):
        fetch("edge/none")
    server.put_secret("edge/binary", SECRET.encode())
    with pytest.raises(SecretUnavailable, match="edge/binary: holds binary data, expected text") as caught:
        fetch("edge/binary")
    assert SECRET not in str(caught.value)


def test_a_service_that_does_not_answer_or_credentials_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SecretUnavailable, match="edge/mqtt: Could not connect to the endpoint URL"):
        fetch("edge/mqtt")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SecretUnavailable, match="edge/mqtt: Unable to locate credentials"):
        fetch("edge/mqtt")


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SecretUnavailable, match=r"pip install 'async-motion\[aws\]'"):
        fetch("edge/mqtt")


def test_the_fields_of_a_secret() -> None:
    assert fields_of("x", '{"user": "edge", "port": 1883, "on": true, "more": {}}') == {
        "user": "edge",
        "port": "1883",
    }
    for text in (SECRET, f'["{SECRET}"]', f'"{SECRET}"'):
        with pytest.raises(SecretUnavailable, match="x: expected a JSON object") as caught:
            fields_of("x", text)
        assert SECRET not in str(caught.value)
        assert caught.value.__suppress_context__
