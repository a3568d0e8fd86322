"""Lifecycle rules on a server that supports them and on one that does not, and the command that sets them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from async_motion.cli import main
from async_motion.errors import StoreRefused
from async_motion.store.lifecycle import ExpiryRule, LifecycleStore
from tests.support.bucket import INSTANCE
from tests.support.s3 import S3Server


def settings_file(folder: Path, server: S3Server, bucket: str) -> Path:
    user = server.admin
    minio = {"endpoint": server.endpoint, "bucket": bucket, "prefix": "cams/"}
    minio |= {"access_key": user.access_key, "secret_key": user.secret_key}
    file = folder / "v.yaml"
    file.write_text(yaml.safe_dump({"instance": INSTANCE, "minio": minio}))
    return file


async def test_our_rule_is_set_and_others_stay(seaweedfs: S3Server) -> None:
    bucket = seaweedfs.make_bucket()
    async with LifecycleStore(bucket=bucket, **seaweedfs.admin.arguments()) as store:
        assert await store.rules() == []
        await store.set_rule("theirs", "logs/", 365)
        await store.set_rule("ours", "edge1/", 30)
        await store.set_rule("ours", "edge1/", 7)
        found = sorted(await store.rules(), key=lambda rule: rule.rule_id)
    assert found == [
        ExpiryRule(rule_id="ours", prefix="edge1/", days=7, enabled=True),
        ExpiryRule(rule_id="theirs", prefix="logs/", days=365, enabled=True),
    ]


async def test_a_server_without_rules_is_named_as_one(juicefs: S3Server) -> None:
    async with LifecycleStore(bucket=juicefs.make_bucket(), **juicefs.admin.arguments()) as store:
        for work in (store.rules(), store.set_rule("ours", "edge1/", 7)):
            with pytest.raises(StoreRefused, match="this server has no lifecycle rules"):
                await work


def test_the_command_shows_before_it_sets(
    seaweedfs: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(settings_file(tmp_path, seaweedfs, bucket := seaweedfs.make_bucket()))
    assert main(["lifecycle", "--config", config, "--days", "30"]) == 0
    assert capsys.readouterr().out == f"would set: {bucket}/cams/edge1/ expires after 30 days; add --apply\n"
    assert main(["lifecycle", "--config", config]) == 0
    assert capsys.readouterr().out == ""
    assert main(["lifecycle", "--config", config, "--days", "30", "--apply"]) == 0
    capsys.readouterr()
    assert main(["lifecycle", "--config", config]) == 0
    assert capsys.readouterr().out == "async_motion-edge1 (ours): cams/edge1/: expires after 30 days\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--apply"], "--apply: expected with --days"),
        (["--days", "0"], "--days: 0: expected 1 to"),
        (["--days", "3"], "lifecycle: the store is a directory: set directory.keep"),
    ],
)
def test_wrong_usage_is_one_line(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.yaml").write_text("instance: edge1\n")
    assert main(["lifecycle", "--config", str(tmp_path / "v.yaml"), *options]) == 2
    assert capsys.readouterr().err.startswith(expected)
