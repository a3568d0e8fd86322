"""Bad input, bad environment: one clear line that says what and where, the exit code, no traceback."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import mqtt, s3
from tests.support.ports import free_port
from tests.support.service import Service, clean_environment
from tests.support.video import make_clip


def command(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would; return the completed process."""
    return subprocess.run(
        [sys.executable, "-m", "async_motion", *words],
        cwd=folder, env=clean_environment(**env), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def credentials(user: s3.User) -> dict[str, object]:
    return {"endpoint": user.endpoint, "access_key": user.access_key, "secret_key": user.secret_key}


def fill(disk: Path) -> Path:
    """Fill a disk; return the file that fills it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(65536)) == 65536:
            pass
    return filler


def embedded(folder: Path) -> dict[str, object]:
    """Return settings with embedded store and broker, on free ports."""
    clip = make_clip(folder / "clip.mp4", seconds=6.0)
    return {
        "instance": "edge1",
        "mqtt": {"port": free_port()},
        "web": {"port": free_port()},
        "cameras": {"porch": {"source": str(clip), "event": {"off_delay": "1s"}}},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minio: {bukcet: motion}\n", "v.yaml:1: minio.bukcet: "),
        ("spool:\n  max_bytes: many\n", "v.yaml:2: spool.max_bytes: "),
        ("cameras:\n  a/b: {source: 'demo:'}\n", "v.yaml:2: cameras.a/b"),
        ("cameras:\n  porch: [1, 2\n", "v.yaml:"),
        ("web: {port: '1'}\n", "v.yaml:1: web.port: "),
    ],
    ids=["unknown key", "wrong type", "camera name", "broken YAML", "text for a number"],
)
def test_wrong_settings(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text(text)
    for words in (("check",), ("run",), ("listen",)):
        answer = command(*words, "--config", "v.yaml", folder=tmp_path)
        assert answer.returncode == 2
        assert answer.stdout == ""
        (line,) = answer.stderr.splitlines()
        assert line.startswith(said)
        assert "expected" in line or "broken YAML" in line


def test_a_missing_settings_file(tmp_path: Path) -> None:
    answer = command("run", "--config", "none.yaml", folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith("none.yaml: cannot be read")
    assert len(answer.stderr.splitlines()) == 1


def test_a_missing_secret_file(tmp_path: Path) -> None:
    answer = command("check", folder=tmp_path, MINIO_SECRET_KEY_FILE="/nowhere/key")
    assert answer.returncode == 2
    assert "MINIO_SECRET_KEY_FILE" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_a_camera_that_cannot_be_reached_does_not_stop_the_service(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    settings["cameras"] = {"yard": {"source": f"rtsp://me:hunter22@127.0.0.1:{free_port()}/x"}} | dict(
        settings["cameras"]  # type: ignore[call-overload]
    )
    with Service(settings, tmp_path / "run") as service:
        said = service.wait_for_log("yard: ")
        assert "trying again in" in said
        service.wait_for_log("porch: motion started")
    assert "hunter22" not in service.log_text()
    assert "Traceback" not in service.log_text()


def test_probe_says_what_works_and_what_does_not(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    settings["cameras"] = {"yard": {"source": f"rtsp://me:hunter22@127.0.0.1:{free_port()}/x"}} | dict(
        settings["cameras"]  # type: ignore[call-overload]
    )
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
    answer = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
    assert answer.returncode == 1, answer.stderr
    assert "ok    camera porch: a frame of 320x240" in answer.stdout
    assert "FAIL  camera yard: " in answer.stdout
    assert "ok    store: wrote a test object" in answer.stdout
    assert "ok    broker: " in answer.stdout
    assert "hunter22" not in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_wrong_secret(tmp_path: Path, seaweedfs: s3.S3Server) -> None:
    settings = embedded(tmp_path) | {
        "minio": {
            **credentials(seaweedfs.admin),
            "secret_key": "not-the-secret",
            "bucket": seaweedfs.make_bucket(),
        }
    }
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
    answer = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
    assert answer.returncode == 1
    (line,) = [line for line in answer.stdout.splitlines() if line[6:].startswith("store:")]
    assert line.startswith("FAIL  store: ")
    assert "SignatureDoesNotMatch" in line or "secret" in line
    assert "not-the-secret" not in answer.stdout + answer.stderr
    with Service(settings, tmp_path / "run") as service:
        service.wait_for_log("motion started")
        service.wait_for_log("store")
        service.wait_for_log("motion ended")
    refusals = [e for e in service.log() if e["level"] == "warning" and "store" in str(e["event"]).lower()]
    assert refusals, "the log says that the store refuses us"
    assert "not-the-secret" not in service.log_text()
    assert "Traceback" not in service.log_text()


def test_a_missing_bucket_that_may_not_be_made(tmp_path: Path, seaweedfs: s3.S3Server) -> None:
    assert seaweedfs.uploader is not None
    settings = embedded(tmp_path) | {
        "minio": {
            **credentials(seaweedfs.uploader),
            "bucket": seaweedfs.new_name(),
            "create_bucket": False,
        }
    }
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
    answer = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
    assert answer.returncode == 1
    (line,) = [line for line in answer.stdout.splitlines() if line[6:].startswith("store:")]
    assert line.startswith("FAIL  store: ")
    assert str(settings["minio"]["bucket"]) in line  # type: ignore[index]


def test_an_uploader_that_may_only_put_is_enough(tmp_path: Path, seaweedfs: s3.S3Server) -> None:
    assert seaweedfs.uploader is not None
    settings = embedded(tmp_path) | {
        "minio": {
            **credentials(seaweedfs.uploader),
            "bucket": seaweedfs.make_bucket(),
            "create_bucket": False,
        }
    }
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
    answer = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "ok    store: wrote a test object" in answer.stdout
    assert "note  store: these credentials may not read it" in answer.stdout


def test_a_broker_that_refuses_the_login(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    with mqtt.mosquitto(folder, login=("me", "right")) as broker:
        settings = embedded(tmp_path) | {
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "username": "me", "password": "hunter22"}
        }
        (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
        answer = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
        assert answer.returncode == 1
        (line,) = [line for line in answer.stdout.splitlines() if line[6:].startswith("broker:")]
        assert line.startswith("FAIL  broker: ")
        assert "refused" in line
        with Service(settings, tmp_path / "run") as service:
            service.wait_for_log("refused")
            service.wait_for_log("motion started")
        assert "hunter22" not in answer.stdout + answer.stderr + service.log_text()
        assert "Traceback" not in service.log_text()


def test_a_listener_waits_while_a_stranger_has_the_port(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    with mqtt.Rumqttd(tmp_path / "stranger") as stranger:
        settings = embedded(tmp_path) | {"mqtt": {"port": stranger.port}}
        (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
        listener = subprocess.Popen(
            [sys.executable, "-m", "async_motion", "listen", "--config", "v.yaml", "--json", "--count", "1"],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert listener.stderr is not None
            # A busy machine may refuse the connection a first time, with a line of its own.
            lines = itertools.islice(listener.stderr, 10)
            assert any("waiting for the service" in line for line in lines)
            with Service(settings, tmp_path / "run") as service:
                service.wait_for_log("motion started")
                out, _ = listener.communicate(timeout=60)
        finally:
            listener.kill()
            listener.communicate()
    assert listener.returncode == 0
    assert '"object_key"' in out


def test_a_spool_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where a folder is expected")
    settings = embedded(tmp_path) | {"spool": {"path": str(tmp_path / "occupied" / "spool.db")}}
    (tmp_path / "v.yaml").write_text(yaml.safe_dump(settings))
    probe = command("check", "--probe", "--config", "v.yaml", folder=tmp_path)
    assert probe.returncode == 1
    assert "FAIL  spool: " in probe.stdout
    assert probe.stderr == ""
    answer = command("run", "--config", "v.yaml", folder=tmp_path)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert str(tmp_path / "occupied") in answer.stderr.splitlines()[-1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB. Skips without root; on CI tests run as root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a tmpfs: {mounted.stderr.decode()}")
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_stops_neither_cameras_nor_the_service(tmp_path: Path, small_disk: Path) -> None:
    settings = embedded(tmp_path) | {"spool": {"path": str(small_disk / "spool.db")}}
    with Service(settings, tmp_path / "run") as service:
        service.wait_for_log("motion started")
        filler = fill(small_disk)
        said = service.wait_for_log("the spool accepts no records")
        assert "disk" in said or "space" in said
        filler.unlink()
        service.wait_for_log("the spool accepts records again")
    assert "Traceback" not in service.log_text()
