"""What `async-motion policy` prints; contract/test_rights.py checks it against real servers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_motion.app.rights import mosquitto_acl, nats_permissions, s3_policy
from async_motion.cli.command_line import main
from async_motion.errors import UsageError
from async_motion.settings import Settings, load

ROOT = Path(__file__).parents[3]
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:edge/mqtt"


def settings_of(folder: Path, **sections: Any) -> Settings:
    file = folder / "variables.yaml"
    file.write_text(yaml.safe_dump({"instance": "edge1", **sections}))
    return load(file, {})


def test_the_uploader_may_put_below_its_instance_and_no_more(tmp_path: Path) -> None:
    policy = s3_policy(settings_of(tmp_path, minio={"create_bucket": False, "prefix": "cameras/"}))

    assert policy == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject"],
                "Resource": ["arn:aws:s3:::motion/cameras/edge1/*"],
            }
        ],
    }


def test_settings_that_need_more_get_more(tmp_path: Path) -> None:
    minio = {"create_bucket": True, "tags": True, "presign": "1h", "encryption": "sse-s3"}

    statements = s3_policy(settings_of(tmp_path, minio=minio))["Statement"]

    assert [statement["Action"] for statement in statements] == [
        ["s3:PutObject", "s3:PutObjectTagging", "s3:GetObject"],
        ["s3:CreateBucket"],
    ]


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("0f1e-22", "arn:aws:kms:eu-west-1:*:key/0f1e-22"),
        ("arn:aws:kms:eu-west-1:111122223333:key/0f1e", "arn:aws:kms:eu-west-1:111122223333:key/0f1e"),
        ("alias/motion", "arn:aws:kms:eu-west-1:*:key/*"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/motion", "arn:aws:kms:eu-west-1:*:key/*"),
    ],
)
def test_a_key_of_aws_is_used_by_its_own_right(tmp_path: Path, key: str, resource: str) -> None:
    minio = {"create_bucket": False, "region": "eu-west-1", "encryption": f"sse-kms:{key}"}
    settings = settings_of(tmp_path, minio=minio)

    put, use = s3_policy(settings, aws=True)["Statement"]
    *_, read = s3_policy(settings, aws=True, reader=True)["Statement"]

    assert put["Action"] == ["s3:PutObject"]
    assert (use["Action"], use["Resource"]) == (["kms:GenerateDataKey"], [resource])
    assert (read["Action"], read["Resource"]) == (["kms:Decrypt"], [resource])
    if "alias" in key:
        condition = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/motion"}}
        assert use["Condition"] == read["Condition"] == condition
    assert len(s3_policy(settings)["Statement"]) == 1, "MinIO uses its key by itself"


@pytest.mark.parametrize(
    ("name", "arn"),
    [
        ("edge/mqtt", "arn:aws:secretsmanager:eu-west-1:*:secret:edge/mqtt-??????"),
        (f"{ARN}-AbCdEf", f"{ARN}-AbCdEf"),
        (ARN, f"{ARN}-??????"),
    ],
)
def test_secrets_of_aws_may_be_read(tmp_path: Path, name: str, arn: str) -> None:
    settings = settings_of(
        tmp_path,
        minio={"endpoint": "s3", "region": "eu-west-1", "credentials": "aws-secret", "secret_name": name},
    )
    for reader in (False, True):
        *_, read = s3_policy(settings, aws=True, reader=reader)["Statement"]
        assert read == {"Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"], "Resource": [arn]}
    assert "secretsmanager" not in str(s3_policy(settings))


@pytest.mark.parametrize(("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_names_of_aws_are_those_of_the_region_s_partition(
    tmp_path: Path, region: str, partition: str
) -> None:
    settings = settings_of(tmp_path, minio={"region": region})

    assert f"arn:{partition}:s3:::motion" in str(s3_policy(settings, aws=True))
    assert "arn:aws:s3:::motion" in str(s3_policy(settings)), "MinIO knows one partition"


def test_a_prefix_never_opens_what_others_have(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, minio={"prefix": "a*b$/"})

    [resource] = s3_policy(settings, aws=True)["Statement"][0]["Resource"]
    assert resource == "arn:aws:s3:::motion/a${*}b${$}/edge1/*"
    with pytest.raises(UsageError, match="prefix"):
        s3_policy(settings)


def test_the_access_list_has_what_is_switched_on(tmp_path: Path) -> None:
    mqtt: dict[str, Any] = {"host": "h", "username": "edge", "base_topic": "home/cams"}
    mqtt |= {"discovery": {"prefix": "ha"}, "frigate_topic": "frigate"}
    assert mosquitto_acl(settings_of(tmp_path, mqtt=mqtt)).splitlines() == [
        "user edge",
        "topic readwrite home/cams/edge1/#",
        "topic readwrite ha/device/async_motion_edge1/#",
        "topic read ha/status",
        "topic read homeassistant/status",
        "topic write frigate/+/motion",
    ]

    mqtt = {"host": "h", "discovery": {"enabled": False}}
    assert mosquitto_acl(settings_of(tmp_path, mqtt=mqtt)) == "topic readwrite async_motion/edge1/#\n"


def test_the_documentation_shows_what_is_printed(tmp_path: Path) -> None:
    printed = mosquitto_acl(settings_of(tmp_path, mqtt={"host": "h", "username": "edge"}))
    assert f"```\n{printed}```" in (ROOT / "config/README.md").read_text("utf-8")


def test_the_broker_of_compose_has_the_same_list(tmp_path: Path) -> None:
    text = (ROOT / "docker/mosquitto/start.sh").read_text("utf-8")
    shown = text.partition("async_motion)")[2].partition(";;")[0]
    lines = [line.replace("%s", "edge1") for line in re.findall(r"printf '(topic .*?)\\n'", shown)]
    printed = mosquitto_acl(settings_of(tmp_path, mqtt={"host": "h", "username": "async_motion"}))

    assert ["user async_motion", *lines] == printed.splitlines()


def test_the_command_prints_a_policy_or_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(tmp_path, mqtt={"host": "h", "username": "edge", "password": "pass-of-the-test"})
    config = ["--config", str(tmp_path / "variables.yaml")]

    for server in ("minio", "aws"):
        for reader in (False, True):
            assert main(["policy", server, *config, *["--reader"] * reader]) == 0
            policy = s3_policy(settings, reader=reader, aws=server == "aws")
            assert json.loads(capsys.readouterr().out) == policy
    assert main(["policy", "mosquitto", "--reader", *config]) == 0
    assert capsys.readouterr().out == "user reader\ntopic read async_motion/edge1/#\n"


def test_a_worker_s_rights_are_to_its_instance_s_bucket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = {
        "fleet": {"servers": ["nats://nats1:4222"], "name": "w1"},
        "mqtt": {"host": "broker"},
        "minio": {"endpoint": "minio:9000", "secret_key": "not-a-secret"},
    }
    settings = settings_of(tmp_path, **fleet)
    assert main(["policy", "nats", "--config", str(tmp_path / "variables.yaml")]) == 0
    said = capsys.readouterr().out
    assert said == nats_permissions(settings)
    subjects = re.findall(r'"([^"]+)"', said)
    assert all("async_motion_edge1" in subject for subject in subjects if subject != "_INBOX.>")
    reader = nats_permissions(settings, reader=True)
    assert "$KV." not in reader
    assert "STREAM.CREATE" not in reader


def test_without_a_fleet_there_are_no_rights_to_nats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_of(tmp_path)
    assert main(["policy", "nats", "--config", str(tmp_path / "variables.yaml")]) == 2
    assert "fleet.servers is blank" in capsys.readouterr().err
