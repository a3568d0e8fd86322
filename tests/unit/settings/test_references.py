"""References to secrets: where one may stand, what is fetched, and what no message shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from async_motion.errors import SecretUnavailable, SettingsError
from async_motion.settings import References, Settings, Unresolved, load

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:edge/keys-AbCdEf"
SECRETS = {
    "edge/mqtt": '{"username": "edge", "password": "pass-of-mqtt"}',
    "edge/token": "token-of-the-page\n",
    "edge/porch": "rtsp://user:pass-of-porch@192.0.2.9/stream",
    "edge/yard": "ftp://user:pass-of-yard@192.0.2.9/stream",
    ARN: '{"secret_key": "key-of-minio"}',
}


MALFORMED = "no reference to a secret, expected aws-secret:NAME or aws-secret:NAME#KEY"


class Vault:
    """Secrets by name, and how often each was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str) -> str:
        self.asked.append(name)
        if name not in SECRETS:
            raise SecretUnavailable(f"{name}: ResourceNotFoundException")
        return SECRETS[name]


def read(folder: Path, text: str, vault: Vault, **env: str) -> Settings:
    file = folder / "variables.yaml"
    file.write_text(text)
    return load(file, env, references=References(vault))


def problems(folder: Path, text: str, **env: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(folder, text, Vault(), **env)
    said = str(caught.value)
    assert "pass-of" not in said
    assert "token-of" not in said
    return said.replace(f"{folder}/", "")


def test_wherever_a_secret_may_stand(tmp_path: Path) -> None:
    vault = Vault()
    secret_file = tmp_path / "token"
    secret_file.write_text("aws-secret:edge/token\n")
    settings = read(
        tmp_path,
        "mqtt:\n  host: broker\n  username: aws-secret:edge/mqtt#username\n"
        "  password: aws-secret:edge/mqtt#password\n"
        "cameras: {porch: {source: aws-secret:edge/porch}}\n",
        vault,
        ASYNC_MOTION__WEB__TOKEN_FILE=str(secret_file),
        MINIO_SECRET_KEY=f"aws-secret:{ARN}#secret_key",
    )
    assert settings.mqtt.username == "edge"
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "pass-of-mqtt"
    assert settings.web.token is not None
    assert settings.web.token.get_secret_value() == "token-of-the-page"
    assert settings.minio.secret_key is not None
    assert settings.minio.secret_key.get_secret_value() == "key-of-minio"
    assert settings.cameras["porch"].source.get_secret_value() == SECRETS["edge/porch"]
    assert settings.secret_names == SECRETS.keys() - {"edge/yard"}
    assert sorted(vault.asked) == sorted(settings.secret_names), "each is fetched once"
    assert {"pass-of-mqtt", "token-of-the-page", "pass-of-porch", "key-of-minio"} <= settings.secrets()


def test_the_cameras_in_one_variable_too(tmp_path: Path) -> None:
    cameras = "{porch: {source: 'aws-secret:edge/porch'}}"
    settings = read(tmp_path, "", Vault(), ASYNC_MOTION__CAMERAS=cameras)
    assert settings.cameras["porch"].source.get_secret_value() == SECRETS["edge/porch"]


def test_each_problem_has_its_line(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        "mqtt:\n  host: broker\n  username: edge\n  password: aws-secret:edge/none\n"
        "web:\n  token: aws-secret:edge/mqtt#token\n  viewer_token: aws-secret:edge/token#key\n"
        "minio:\n  secret_key: 'aws-secret:'\n  access_key: 'aws-secret:edge/mqtt#'\n",
    )
    assert said.splitlines() == [
        "variables.yaml:4: mqtt.password: AWS Secrets Manager: edge/none: ResourceNotFoundException",
        "variables.yaml:6: web.token: AWS Secrets Manager: edge/mqtt: has no text at #token",
        "variables.yaml:7: web.viewer_token: AWS Secrets Manager: edge/token: expected a JSON object",
        f"variables.yaml:9: minio.secret_key: {MALFORMED}",
        f"variables.yaml:10: minio.access_key: {MALFORMED}",
    ]


def test_what_a_secret_holds_is_checked_as_if_it_were_written_there(tmp_path: Path) -> None:
    said = problems(tmp_path, "cameras: {porch: {source: 'aws-secret:edge/yard'}}")
    assert "variables.yaml:1: cameras.porch.source: an unknown kind of address" in said


def test_a_key_that_is_no_secret_takes_no_reference(tmp_path: Path) -> None:
    vault = Vault()
    with pytest.raises(SettingsError, match=r"mqtt\.port: 'aws-secret:edge/token'"):
        read(tmp_path, "mqtt: {port: aws-secret:edge/token}", vault)
    assert vault.asked == []


def test_credentials_in_a_secret_need_its_name(tmp_path: Path) -> None:
    said = problems(tmp_path, "minio: {endpoint: s3, credentials: aws-secret}")
    assert "minio.credentials: set alone, expected `secret_name` with it" in said
    said = problems(tmp_path, "minio: {endpoint: s3, secret_name: edge/s3}")
    assert "minio.secret_name: set alone, expected `credentials: aws-secret` with it" in said
    settings = read(tmp_path, "minio: {endpoint: s3, credentials: aws-secret, secret_name: edge/s3}", Vault())
    assert settings.secret_names == {"edge/s3"}


def test_unresolved_references_are_only_named(tmp_path: Path) -> None:
    file = tmp_path / "variables.yaml"
    file.write_text(
        "web: {token: aws-secret:edge/a#x, viewer_token: aws-secret:edge/a#y}\n"
        "cameras: {porch: {source: aws-secret:edge/b}}\n"
    )
    settings = load(file, {}, references=Unresolved())
    assert settings.secret_names == {"edge/a", "edge/b"}
