"""The files under docker/: compose files, scripts and the image's set of packages.

No Docker daemon is needed. `config` runs if docker-compose or the compose plugin is installed. A small script
stands in for MinIO's client and records its arguments.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import aiomqtt
import pytest
import yaml
from packaging.requirements import Requirement

from async_motion.settings import load
from tests.support.ports import free_port
from tests.support.wait import eventually_async

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
MINIO, ALL = DOCKER / "minio/docker-compose.yml", DOCKER / "compose.yaml"
ROOT_KEYS = {"MINIO_ACCESS_KEY": "root-user", "MINIO_SECRET_KEY": "root-password"}
DIGEST = re.compile(r"\S+:\S*\d+\S*@sha256:[0-9a-f]{64}")
"""A tag with a version, and the digest that pins it."""


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def missing(what: str) -> NoReturn:
    """Skip the test because a program is missing; on CI, where all must be installed, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


def compose(
    path: Path, folder: Path, env: Mapping[str, str], *more: Path
) -> subprocess.CompletedProcess[str]:
    """Run `config` on a copy of docker/, so that no .env of this machine has an effect."""
    if shutil.which("docker-compose"):
        command = ["docker-compose"]
    elif (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        command = ["docker", "compose"]
    else:
        missing("docker-compose")
    copy = folder / "docker"
    if not copy.exists():
        shutil.copytree(DOCKER, copy, ignore=shutil.ignore_patterns(".env", "secrets"))
        shutil.copytree(ROOT / "config", folder / "config")
    file = copy / path.relative_to(DOCKER)
    return subprocess.run(
        [*command, *(part for one in (path, *more) for part in ("-f", one.name)), "config"],
        cwd=file.parent,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- the compose files ----


@pytest.mark.parametrize("path", [MINIO, ALL], ids=lambda path: path.name)
def test_config_passes_with_the_root_keys_alone(path: Path, tmp_path: Path) -> None:
    if path is ALL:
        subprocess.run(["sh", str(copied_secrets(tmp_path))], check=True, capture_output=True)
    done = compose(path, tmp_path, ROOT_KEYS)
    assert done.returncode == 0, done.stderr
    server = yaml.safe_load(done.stdout)["services"]["minio"]
    assert server["environment"] == {"MINIO_ROOT_USER": "root-user", "MINIO_ROOT_PASSWORD": "root-password"}


def test_a_fleet_to_try_goes_on_top_of_everything(tmp_path: Path) -> None:
    subprocess.run(["sh", str(copied_secrets(tmp_path))], check=True, capture_output=True)
    done = compose(ALL, tmp_path, ROOT_KEYS, DOCKER / "compose.fleet.yaml")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    workers = {
        services[name]["environment"]["ASYNC_MOTION__FLEET__NAME"] for name in ("processor", "processor2")
    }
    assert workers == {"one", "two"}
    first, second = (services[name]["environment"] for name in ("processor", "processor2"))
    for key in ("ASYNC_MOTION__FLEET__SERVERS", "ASYNC_MOTION__INSTANCE", "ASYNC_MOTION__MQTT__HOST"):
        assert first[key] == second[key]
    assert {"nats1", "nats2", "nats3"} <= services.keys()


@pytest.mark.parametrize("key", sorted(ROOT_KEYS))
@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("path", [MINIO, ALL], ids=lambda path: path.name)
def test_config_refuses_without_a_root_key(path: Path, key: str, value: str | None, tmp_path: Path) -> None:
    env = {name: text for name, text in ROOT_KEYS.items() if name != key} | (
        {} if value is None else {key: value}
    )
    done = compose(path, tmp_path, env)
    assert done.returncode != 0
    assert key in done.stderr


def test_the_keys_may_stand_in_a_dotenv_file(tmp_path: Path) -> None:
    compose(MINIO, tmp_path, ROOT_KEYS)
    example = (tmp_path / "docker/minio/.env.example").read_text()
    filled = example.replace(
        "MINIO_ACCESS_KEY=\nMINIO_SECRET_KEY=\n", "MINIO_ACCESS_KEY=a\nMINIO_SECRET_KEY=b\n", 1
    )
    assert filled != example
    (tmp_path / "docker/minio/.env").write_text(filled)
    done = compose(MINIO, tmp_path, {})
    assert done.returncode == 0, done.stderr
    server = yaml.safe_load(done.stdout)["services"]["minio"]
    assert server["environment"] == {"MINIO_ROOT_USER": "a", "MINIO_ROOT_PASSWORD": "b"}


def test_the_minio_service_keeps_its_contract() -> None:
    server = document(MINIO)["services"]["minio"]
    assert {port.rpartition(":")[2] for port in server["ports"]} == {"9000", "9001"}
    assert all(port.startswith("${MINIO_BIND:-127.0.0.1}:") for port in server["ports"]), (
        "opened to this machine alone"
    )
    assert "--console-address :9001" in server["command"]
    assert server["healthcheck"]["test"][0] == "CMD"
    (volume,) = server["volumes"]
    assert volume.partition(":")[0] in document(MINIO)["volumes"], "a named volume"
    for name, source in (
        ("MINIO_ROOT_USER", "MINIO_ACCESS_KEY"),
        ("MINIO_ROOT_PASSWORD", "MINIO_SECRET_KEY"),
    ):
        assert server["environment"][name].startswith(f"${{{source}:?")


def test_the_setup_waits_for_a_healthy_server_and_runs_once() -> None:
    setup = document(MINIO)["services"]["minio-setup"]
    assert setup["depends_on"] == {"minio": {"condition": "service_healthy"}}
    assert setup["restart"] == "no"
    assert setup["image"] == document(MINIO)["services"]["minio"]["image"]


def test_the_example_names_every_variable_that_is_read() -> None:
    read = set(re.findall(r"\$\{(\w+)", MINIO.read_text()))
    named = set(re.findall(r"^(\w+)=", (DOCKER / "minio/.env.example").read_text(), re.MULTILINE))
    assert read == named


def test_every_image_is_pinned_by_digest() -> None:
    for path in (MINIO, ALL):
        for name, service in document(path)["services"].items():
            if "build" in service or "extends" in service:
                continue
            image = re.sub(r"^\$\{MINIO_IMAGE:-(.+)\}$", r"\1", service["image"])
            assert DIGEST.fullmatch(image), f"{name}: {service['image']}"
    base = re.search(r"^ARG PYTHON=(.+)$", (DOCKER / "processor/Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert DIGEST.fullmatch(base[1])


def test_an_image_without_a_known_digest_has_an_exact_tag_and_the_reason() -> None:
    for path in (DOCKER / "compose.fleet.yaml", DOCKER / "kubernetes/nats.yaml"):
        (image,) = re.findall(r"image: (nats:.+)$", path.read_text(), re.MULTILINE)
        tag, _, reason = image.partition("  # ")
        assert re.fullmatch(r"nats:\d+\.\d+\.\d+-alpine", tag), tag
        assert "digest" in reason


def test_another_minio_is_one_line(tmp_path: Path) -> None:
    done = compose(MINIO, tmp_path, ROOT_KEYS | {"MINIO_IMAGE": "pgsty/silo:RELEASE.2026-08-06T00-00-00Z"})
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {service["image"] for service in services.values()} == {"pgsty/silo:RELEASE.2026-08-06T00-00-00Z"}


@pytest.mark.parametrize("path", [MINIO, ALL], ids=lambda path: path.name)
def test_every_service_is_bounded_and_hardened(path: Path, tmp_path: Path) -> None:
    if path is ALL:
        subprocess.run(["sh", str(copied_secrets(tmp_path))], check=True, capture_output=True)
    done = compose(path, tmp_path, ROOT_KEYS)
    assert done.returncode == 0, done.stderr
    for name, service in yaml.safe_load(done.stdout)["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert float(service["cpus"]) > 0, name
        # MinIO's image has no other user; the processor's image sets its own.
        assert "user" in service or name in ("minio", "processor"), name


def test_encryption_at_rest_needs_a_key(tmp_path: Path) -> None:
    compose(MINIO, tmp_path, ROOT_KEYS)
    folder = tmp_path / "docker/minio"
    command = ["docker-compose", "-f", "docker-compose.yml", "-f", "compose.kms.yml", "config"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **ROOT_KEYS}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "MINIO_KMS_SECRET_KEY" in done.stderr
    key = {"MINIO_KMS_SECRET_KEY": "motion:AAAA"}
    done = subprocess.run(command, cwd=folder, env=env | key, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    server = yaml.safe_load(done.stdout)["services"]["minio"]
    assert server["environment"]["MINIO_KMS_SECRET_KEY"] == "motion:AAAA"
    assert server["environment"]["MINIO_KMS_AUTO_ENCRYPTION"] == "on"


def test_the_processor_gets_settings_that_are_right(tmp_path: Path) -> None:
    services = document(ALL)
    processor = services["services"]["processor"]
    for name in processor["secrets"]:
        (tmp_path / name).write_text(f"the {name}\n")
    env = {
        key: str(value)
        .replace("/run/secrets", str(tmp_path))
        .replace("${ASYNC_MOTION_INSTANCE:-edge1}", "edge1")
        for key, value in processor["environment"].items()
    }
    settings = load(ROOT / "config/processor/variables.yaml", env)
    assert settings.instance == "edge1"
    assert (settings.minio.endpoint, settings.minio.access_key) == ("minio:9000", "uploader")
    assert settings.mqtt.host == "mosquitto"
    assert {
        "the minio_uploader_secret_key",
        "the mqtt_async_motion_password",
        "the web_token",
    } == settings.secrets()
    assert {"minio", "mosquitto"} <= set(services["services"])
    assert processor["read_only"] is True
    assert processor["cap_drop"] == ["ALL"]


# ---- secrets ----


def copied_secrets(folder: Path) -> Path:
    (folder / "docker").mkdir(exist_ok=True)
    shutil.copytree(
        DOCKER, folder / "docker", ignore=shutil.ignore_patterns(".env", "secrets"), dirs_exist_ok=True
    )
    shutil.copytree(ROOT / "config", folder / "config", dirs_exist_ok=True)
    return folder / "docker/make-secrets.sh"


def test_make_secrets_makes_each_once_and_shows_none(tmp_path: Path) -> None:
    script = copied_secrets(tmp_path)

    def run() -> dict[str, str]:
        done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=True, timeout=60)
        files = [*sorted((tmp_path / "docker/secrets").iterdir()), tmp_path / "docker/.env"]
        found = {file.name: file.read_text() for file in files}
        assert not any(line in done.stdout + done.stderr for text in found.values() for line in text.split())
        return found

    first = run()
    wanted = {Path(secret["file"]).name for secret in document(ALL)["secrets"].values()}
    assert set(first) == wanted | {".env"}
    assert len(set(first.values())) == len(first)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}\n", first[name]) for name in wanted)
    assert run() == first
    folder = tmp_path / "docker/secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "docker/.env").stat().st_mode) == 0o600


# ---- what the one-shot service does to the server ----

FAKE_MC = """#!/bin/sh
# Keeps what it is told: one line of arguments and one of standard input for each call.
echo "mc $*" >>"$LOG"
case "$*" in
  "alias set"*|"admin user add"*) input=$(cat); echo "stdin $(echo "$input" | tr '\\n' ' ')" >>"$LOG" ;;
esac
case "$1 $2 $3" in
  "admin user add") echo "$input" | head -1 >>"$STATE/users" ;;
  "admin user info") grep -qx "$5" "$STATE/users" 2>/dev/null ;;
  "admin policy create") cp "$6" "$STATE/$5.json" ;;
  "admin policy attach") if [ -e "$STATE/$5.$7" ]; then exit 1; else touch "$STATE/$5.$7"; fi ;;
esac
"""


class Server:
    """A fake MinIO that records the commands sent to it."""

    def __init__(self, folder: Path) -> None:
        self.state, self.log, self.bin = folder / "state", folder / "log", folder / "bin"
        for path in (self.state, self.bin, folder / "tmp"):
            path.mkdir()
        self.scratch = folder / "tmp"
        (self.bin / "mc").write_text(FAKE_MC)
        (self.bin / "mc").chmod(0o755)

    def setup(self, **env: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        base = {
            "MINIO_ROOT_USER": "admin",
            "MINIO_ROOT_PASSWORD": "root-password",
            "TMPDIR": str(self.scratch),
        }
        own = {"PATH": f"{self.bin}:{os.environ['PATH']}", "LOG": str(self.log), "STATE": str(self.state)}
        return subprocess.run(
            ["sh", str(DOCKER / "minio/setup.sh")],
            env=own | base | env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def calls(self, kind: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(kind)]

    def policy(self, name: str) -> Any:
        (statement,) = json.loads((self.state / f"{name}.json").read_text())["Statement"]
        return statement


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_the_uploader_may_put_frames_and_no_more(server: Server) -> None:
    done = server.setup(MINIO_UPLOADER_SECRET_KEY="upload secret")
    assert done.returncode == 0, done.stderr
    assert "mc mb --ignore-existing server/motion" in server.calls("mc")
    assert "stdin uploader upload secret " in server.calls("stdin")
    assert "mc admin policy attach server async-motion-uploader --user uploader" in server.calls("mc")
    assert server.policy("async-motion-uploader") == {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:AbortMultipartUpload"],
        "Resource": ["arn:aws:s3:::motion/*"],
    }
    assert not any("reader" in call for call in server.calls("mc"))


def test_a_reader_is_made_when_it_is_given_a_secret(server: Server) -> None:
    env = {"MINIO_UPLOADER_SECRET_KEY": "upload secret", "MINIO_READER_SECRET_KEY": "reader secret"}
    assert server.setup(**env, MINIO_BUCKET="cams", MINIO_READER_ACCESS_KEY="ann").returncode == 0
    assert "stdin ann reader secret " in server.calls("stdin")
    reader = server.policy("async-motion-reader")
    assert set(reader["Action"]) == {"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"}
    assert reader["Resource"] == ["arn:aws:s3:::cams", "arn:aws:s3:::cams/*"]


def test_no_secret_stands_on_a_command_line_or_in_the_output(server: Server) -> None:
    env = {"MINIO_UPLOADER_SECRET_KEY": "upload secret", "MINIO_READER_SECRET_KEY": "reader secret"}
    done = server.setup(**env)
    shown = "\n".join(server.calls("mc")) + done.stdout + done.stderr
    assert not any(secret in shown for secret in ("root-password", "upload secret", "reader secret"))


def test_a_secret_is_made_once_when_none_is_given(server: Server) -> None:
    first = server.setup()
    made = re.search(r"secret_key: (\S{24})$", first.stdout, re.MULTILINE)
    assert made, first.stdout
    assert f"stdin uploader {made[1]} " in server.calls("stdin")
    again = server.setup()
    assert again.returncode == 0, again.stderr
    assert "secret_key" not in again.stdout
    assert not any(call.startswith("mc admin user add") for call in server.calls("mc")), (
        "the first one still holds"
    )


def test_running_it_again_is_not_an_error(server: Server) -> None:
    for _ in range(2):
        done = server.setup(MINIO_UPLOADER_SECRET_KEY="upload secret")
        assert done.returncode == 0, done.stderr


def test_the_uploaders_secret_may_come_from_a_file(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    assert server.setup(MINIO_UPLOADER_SECRET_KEY_FILE=str(secret)).returncode == 0
    assert "stdin uploader from a file " in server.calls("stdin")


def test_the_uploader_is_never_the_root_user(server: Server) -> None:
    done = server.setup(MINIO_UPLOADER_ACCESS_KEY="admin", MINIO_UPLOADER_SECRET_KEY="upload secret")
    assert done.returncode == 1
    assert "admin is the root user" in done.stderr
    assert not any("user add" in call for call in server.calls("mc"))


# ---- the broker ----


async def test_the_broker_accepts_only_its_users_with_their_rights(tmp_path: Path) -> None:
    for program in ("mosquitto", "mosquitto_passwd", "mosquitto_sub"):
        if not shutil.which(program):
            missing(program)
    port = free_port()
    data, secrets, scratch = tmp_path / "data", tmp_path / "secrets", tmp_path / "scratch"
    for folder in (data, secrets, scratch):
        folder.mkdir()
    passwords = {"async_motion": "pass word", "homeassistant": "other", "phone": "third"}
    for user, password in passwords.items():
        (secrets / f"mqtt_{user}_password").write_text(f"{password}\n")
    config = (DOCKER / "mosquitto/mosquitto.conf").read_text()
    for theirs, ours in (
        ("listener 1883", f"listener {port} 127.0.0.1"),
        ("/tmp/passwords", str(scratch / "passwords")),
        ("/tmp/acl", str(scratch / "acl")),
        ("/mosquitto/data/", f"{data}/"),
    ):
        assert theirs in config
        config = config.replace(theirs, ours)
    # The container runs as mosquitto; here the files belong to the user who runs the tests.
    config += f"user {os.environ.get('USER', 'root') if os.getuid() else 'root'}\nsys_interval 1\n"
    (tmp_path / "mosquitto.conf").write_text(config)
    env = {
        "PATH": os.environ["PATH"],
        "SECRETS": str(secrets),
        "SCRATCH": str(scratch),
        "INSTANCE": "edge1",
        "CONFIG": str(tmp_path / "mosquitto.conf"),
    }

    def client(username: str | None, password: str | None) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            port,
            username=username,
            password=password,
            timeout=10,
            protocol=aiomqtt.ProtocolVersion.V5,
        )

    async def login(username: str | None, password: str | None) -> str:
        try:
            async with client(username, password):
                return "in"
        except aiomqtt.MqttCodeError as exc:
            return f"refused: {exc}"
        except aiomqtt.MqttError:
            return ""

    async def arrives(topic: str, *, sender: str, reader: str) -> bool:
        async with client(sender, passwords[sender]) as out, client(reader, passwords[reader]) as into:
            await into.subscribe(topic, qos=1)
            await out.publish(topic, b"x", qos=1)
            try:
                async with asyncio.timeout(0.5):
                    async for _ in into.messages:
                        return True
            except TimeoutError:
                return False
        return False

    start = ["sh", str(DOCKER / "mosquitto/start.sh")]
    with (tmp_path / "log").open("wb") as log:
        broker = await asyncio.create_subprocess_exec(*start, env=env, stdout=log, stderr=log)
        try:
            await eventually_async(lambda: login("async_motion", "pass word"), what="a login")
            for user, password in passwords.items():
                assert await login(user, password) == "in"
            for stranger in ((None, None), ("async_motion", "other"), ("nobody", "other")):
                assert (await login(*stranger)).startswith("refused")
            assert "word" not in (scratch / "passwords").read_text(), "the passwords are hashed"

            for topic in ("async_motion/edge1/status", "homeassistant/device/async_motion_edge1/config"):
                assert await arrives(topic, sender="async_motion", reader="homeassistant")
            assert await arrives("homeassistant/status", sender="homeassistant", reader="async_motion")
            assert await arrives("async_motion/edge1/porch/frame", sender="async_motion", reader="phone")
            for topic in ("async_motion/other/status", "homeassistant/device/other/config", "zigbee2mqtt/x"):
                assert not await arrives(topic, sender="async_motion", reader="homeassistant"), topic
            assert not await arrives(
                "async_motion/edge1/porch/detection/set", sender="phone", reader="homeassistant"
            )

            # Run the compose file's own health check: it logs in and gets an answer.
            kind, check = document(ALL)["services"]["mosquitto"]["healthcheck"]["test"]
            assert kind == "CMD-SHELL"
            check = check.replace("/tmp/health", str(scratch / "health")).replace("$$", "$")
            check = check.replace("mosquitto_sub", f"mosquitto_sub -p {port}")
            done = await asyncio.to_thread(
                subprocess.run, ["sh", "-c", check], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            assert "seconds" in done.stdout
        finally:
            broker.terminate()
            async with asyncio.timeout(30):
                await broker.wait()


# ---- the image ----


def dockerfile() -> str:
    return (DOCKER / "processor/Dockerfile").read_text()


def pinned() -> dict[str, str]:
    text = (DOCKER / "processor/requirements.txt").read_text()
    found = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    # Only the image has OpenCV without GUI.
    found["opencv-python"] = found.pop("opencv-python-headless")
    return found


def test_the_image_has_every_dependency_in_a_version_that_we_allow() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for line in (*project["project"]["dependencies"], *extras["fleet"], *extras["aws"]):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(
            {"sys_platform": "linux", "python_version": "3.13"}
        ):
            name = re.sub(r"[-_.]+", "-", requirement.name).lower()
            assert name in pinned(), f"{line} is not in the image: run docker/processor/lock.sh"
            assert requirement.specifier.contains(pinned()[name]), (
                f"{line}, but the image has {pinned()[name]}"
            )


def test_the_image_copies_what_is_there_and_is_let_through() -> None:
    let_through = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = re.findall(
        r"^COPY (?!--from)(.+) \S+$", (DOCKER / "processor/Dockerfile").read_text(), re.MULTILINE
    )
    sources = [Path(source) for line in copied for source in line.split()]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert any(source.match(pattern) or Path(pattern) in source.parents for pattern in let_through), (
            source
        )


def test_every_package_of_the_image_is_locked_by_hashes() -> None:
    for name in ("requirements.txt", "build-requirements.txt"):
        text = (DOCKER / "processor" / name).read_text()
        assert "://" not in text, "no registry is named"
        for package in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
            if "==" in package:
                assert "--hash=sha256:" in package, package
    installs = re.findall(r"pip\S* .*?install .*?(?:&&|$)", dockerfile().replace("\\\n", ""), re.MULTILINE)
    assert installs
    assert all("--require-hashes" in install or "/wheels/" in install for install in installs)


def test_the_owners_settings_and_secrets_are_in_no_layer() -> None:
    assert "config" not in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(), re.MULTILINE)
    assert "config/" not in dockerfile()
    assert "docker/secrets" not in (ROOT / ".dockerignore").read_text()


def test_the_app_has_the_image_s_base_and_packages() -> None:
    text = (DOCKER / "home_assistant/Dockerfile").read_text()
    assert re.findall(r"^FROM (.+)$", text, re.MULTILINE) == re.findall(
        r"^ARG PYTHON=(.+)$", dockerfile(), re.MULTILINE
    )
    assert "--require-hashes" in text
    assert "cp docker/processor/requirements.txt" in (DOCKER / "home_assistant/build.sh").read_text()


@pytest.mark.parametrize("folder", ["processor", "home_assistant"])
def test_hadolint_finds_nothing(folder: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        missing("hadolint")
    done = subprocess.run(
        [hadolint, DOCKER / folder / "Dockerfile"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_does_not_run_as_root() -> None:
    text = (DOCKER / "processor/Dockerfile").read_text()
    users = re.findall(r"^USER (.+)$", text, re.MULTILINE)
    assert users
    assert users[-1].partition(":")[0] not in ("root", "0")
    assert "HEALTHCHECK" in text
