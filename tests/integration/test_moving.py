"""`async-motion backup` and `restore`: a running service with a backlog moves to another folder."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
import yaml

from async_motion.cli import main
from async_motion.settings import shipped
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.video import make_clip
from tests.support.wait import eventually


def settings_of(tmp_path: Path, **more: object) -> dict[str, object]:
    return {
        "instance": "edge1",
        "shutdown_grace": "0s",
        "mqtt": {"port": free_port()},
        "web": {"port": free_port()},
        "cameras": {"porch": {"source": str(tmp_path / "clip.mp4"), "event": {"off_delay": "500ms"}}},
        **more,
    }


def test_a_service_moves_with_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=6.0)
    minio = {"endpoint": f"127.0.0.1:{free_port()}", "secret_key": "a-secret-of-the-test"}
    file = tmp_path / "kept" / "edge1.tar"
    old = Service(settings_of(tmp_path, minio=minio), tmp_path / "old")
    with old:
        old.wait_for_log("motion ended")
        monkeypatch.chdir(old.folder)
        assert main(["backup", "--config", str(old.config), str(file)]) == 0
        assert "a-secret-of-the-test" not in capsys.readouterr().out
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["manifest.json", "variables.yaml", "spool.db"]
    assert main(["backup", "--config", str(old.config), str(file)]) == 2, "never over another backup"

    new = tmp_path / "new"
    new.mkdir()
    monkeypatch.chdir(new)
    monkeypatch.delenv("ASYNC_MOTION_CONFIG", raising=False)
    assert main(["restore", str(file)]) == 0
    config = new / "config/processor/variables.yaml"
    assert config.read_bytes() == old.config.read_bytes()
    capsys.readouterr()
    assert main(["spool", "--json"]) == 0
    (porch,) = yaml.safe_load(capsys.readouterr().out)["waiting"]
    assert porch["to_store"] > 0

    # The new place has a store: all waiting records arrive, under their old keys.
    moved = settings_of(tmp_path, directory={"path": "objects"})
    moved["cameras"] = {"porch": {"source": str(tmp_path / "clip.mp4"), "enabled": False}}
    with Service(moved, new):
        eventually(
            lambda: len(list(new.glob("objects/edge1/porch/**/*.jpg"))) == porch["to_store"],
            within_s=60,
            what="what waited to be stored",
        )
        eventually(lambda: list(new.glob("objects/edge1/porch/**/event.json")), within_s=60, what="its event")


def test_what_is_there_is_not_overwritten_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ASYNC_MOTION")]:
        monkeypatch.delenv(name)
    config = tmp_path / "variables.yaml"
    config.write_text("instance: edge1\nmqtt: {host: h, username: u, password: first-of-the-test}\n")
    assert main(["backup", "--config", str(config), "backup.tar"]) == 0
    assert "there is no spool yet" in capsys.readouterr().out

    config.write_text("instance: edge1\nmqtt: {host: h, username: u, password: other-of-the-test}\n")
    assert main(["restore", "--config", str(config), "backup.tar"]) == 2
    assert "other settings are there already" in capsys.readouterr().err
    assert main(["restore", "--config", str(config), "--replace", "backup.tar"]) == 0
    assert "first-of-the-test" in config.read_text()
    assert "other-of-the-test" in Path("variables.yaml.bak").read_text()
    config.write_bytes(shipped().read_bytes())
    assert main(["restore", "--config", str(config), "backup.tar"]) == 0, "default settings may be replaced"

    config.write_text("{}")
    monkeypatch.setenv("ASYNC_MOTION__INSTANCE", "edge2")
    assert main(["restore", "--config", str(config), "--replace", "backup.tar"]) == 2
    assert "belongs to edge1" in capsys.readouterr().err
    assert config.read_text() == "{}"


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100])
def test_a_file_that_is_not_a_backup_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main(["restore", "--config", str(tmp_path / "variables.yaml"), str(tmp_path / "file")]) == 2
    assert "is not a backup of async_motion" in capsys.readouterr().err
    assert main(["restore", "--config", str(tmp_path / "variables.yaml"), str(tmp_path / "none")]) == 2
    assert not (tmp_path / "variables.yaml").exists()


def test_a_backup_that_is_cut_off_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "variables.yaml"
    config.write_text("instance: edge1\n")
    assert main(["backup", "--config", str(config), "backup.tar"]) == 0
    whole = Path("backup.tar").read_bytes()
    for size in (700, 1500):
        Path("part.tar").write_bytes(whole[:size])
        assert main(["restore", "--config", str(tmp_path / "new.yaml"), "part.tar"]) == 2
        assert capsys.readouterr().err
    assert not (tmp_path / "new.yaml").exists()
