"""The log is readable where a person reads it, JSON elsewhere, and never says a secret."""

from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_motion.cli.log_setup import log_as_set
from async_motion.logs import MAX_QUEUED, Mask, setup_logging
from async_motion.settings import load

PACKAGE = Path(__file__).parents[2] / "async_motion"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("async_motion.capture").setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def test_json_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "auto")
    logging.getLogger("async_motion.x").info("%s: motion started, score %.2f", "porch", 0.14)
    logging.getLogger("async_motion.x").debug("unheard")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "porch: motion started, score 0.14"
    assert entry["level"] == "info"
    assert entry["logger"] == "async_motion.x"
    assert entry["timestamp"].endswith("Z")


def test_text_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    logging.getLogger("async_motion.x").warning("porch: no answer")
    line = capsys.readouterr().err
    assert "porch: no answer" in line
    assert "warning" in line
    assert not line.startswith("{")


@pytest.mark.parametrize("format_", ["text", "json"])
def test_secrets_are_hidden_also_in_tracebacks(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", format_, ["hunter2-hunter2", "ab"])
    try:
        raise RuntimeError("cannot open rtsp://me:hunter2-hunter2@host")
    except RuntimeError:
        logging.getLogger("x").exception("a bug near hunter2-hunter2")
    said = capsys.readouterr().err
    assert "hunter2-hunter2" not in said
    assert "***" in said


# ---- secrets ----

HARD = "päss\"w\\ord %'1"


@pytest.mark.parametrize("format_", ["text", "json"])
def test_a_secret_is_hidden_however_it_is_written(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", format_, [HARD])
    log = logging.getLogger("async_motion.x")
    log.info("%s", f"login with {HARD}")
    log.info("%r", HARD)
    log.info("payload %s", json.dumps({"password": HARD}))
    log.info("cannot open %s", "rtsp://me:p%C3%A4ss%22w%5Cord%20%25%271@host/")
    log.info("%s", RuntimeError(HARD), extra={"peer": [HARD]})
    logging.getLogger("other").info(f"their own words: {HARD}")  # noqa: G004  # as others do
    said = capsys.readouterr().err
    for part in ("päss", "w\\\\ord", "w\\ord", "%22w", "u00e4ss"):
        assert part not in said
    assert said.count("***") >= 7
    if format_ == "json":
        assert all(json.loads(line) for line in said.splitlines()), "still JSON"


def test_a_password_that_is_a_word_of_ours_cannot_be_read_off_its_mask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup_logging("info", "json", ["camera", "event", "info", "porch", "timestamp"], names=["porch"])
    logging.getLogger("async_motion.camera").info("%s: the camera has an event: %s", "porch", "a camera")
    entry = json.loads(capsys.readouterr().err)
    assert entry["event"] == "porch: the camera has an event: a ***"
    assert (entry["level"], entry["logger"]) == ("info", "async_motion.camera")
    assert "timestamp" in entry


def test_numbers_keep_their_format(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text", ["0.14"])
    logging.getLogger("async_motion.x").info("score %.2f of %d", 0.14, 3)
    assert "score 0.14 of 3" in capsys.readouterr().err


def test_every_message_of_ours_is_a_constant() -> None:
    """What stands in the message itself is not masked: values belong into its arguments."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            ours = isinstance(node.func.value, ast.Name) and node.func.value.id in ("log", "logger")
            if ours and node.func.attr in ("debug", "info", "warning", "error", "critical", "exception"):
                message = node.args[0]
                constant = isinstance(message, ast.Constant) and isinstance(message.value, str)
                assert constant, f"{path}:{node.lineno}"


def test_secrets_and_names_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "variables.yaml"
    file.write_text(
        "minio: {endpoint: localhost:9000, secret_key: ab}\n"
        "cameras: {porch: {name: Front porch, source: 'rtsp://me:long-password@192.0.2.1/'}}\n"
    )
    settings = load(file, {})
    assert {("minio.secret_key", "ab"), ("cameras.porch.source", "long-password")} <= set(
        settings.secret_places()
    )
    assert {"porch", "Front porch", "localhost:9000", "motion"} <= settings.names()
    assert settings.names() & settings.secrets() == set()


def test_a_secret_too_short_to_hide_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "variables.yaml"
    file.write_text("mqtt: {host: 127.0.0.1, username: a, password: pw9}\n")
    log_as_set(load(file, {}), "info")
    said = capsys.readouterr().err
    assert "mqtt.password is shorter than 4 characters" in said
    assert "pw9" not in said


# ---- levels ----


def test_one_package_may_say_more_than_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("warning", "text", levels={"capture": "debug"})
    logging.getLogger("async_motion.capture.readers").debug("a packet")
    logging.getLogger("async_motion.store").info("a put")
    assert "a packet" in (said := capsys.readouterr().err)
    assert "a put" not in said


# ---- a reader that stalls ----

STALLS = f"""
import logging, sys
from async_motion.logs import dropped_lines, flush_logging, setup_logging

setup_logging("info", "json", background=True)
log = logging.getLogger("async_motion.x")
for number in range({3 * MAX_QUEUED}):
    log.info("line %d of many, each of them long enough to fill the pipe", number)
print(dropped_lines(), flush=True)
sys.stdin.readline()
flush_logging(3)
log.info("goes on")
"""


@pytest.fixture
def stalled() -> Iterator[subprocess.Popen[bytes]]:
    """A process that logs more than fits, while its standard error is not read."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", STALLS]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        try:
            yield child
        finally:
            child.kill()


def test_a_stalled_reader_blocks_no_logging_and_the_loss_is_reported(
    stalled: subprocess.Popen[bytes],
) -> None:
    assert stalled.stdout is not None
    dropped = int(stalled.stdout.readline())  # it comes although standard error is not read
    assert dropped > 0
    _, said = stalled.communicate(b"\n", timeout=60)
    lines = [json.loads(line)["event"] for line in said.splitlines()]
    assert stalled.returncode == 0
    told = [line for line in lines if "lines were dropped" in line]
    assert sum(int(line.split(": ")[1].split()[0]) for line in told) == dropped
    assert lines[0] == "line 0 of many, each of them long enough to fill the pipe"
    assert len([line for line in lines if line.startswith("line ")]) == 3 * MAX_QUEUED - dropped
    assert lines[-1] == "goes on"


def test_a_process_ends_though_its_reader_has_stalled(stalled: subprocess.Popen[bytes]) -> None:
    assert stalled.stdin is not None
    assert stalled.stdout is not None
    stalled.stdout.readline()
    stalled.stdin.write(b"\n")
    stalled.stdin.flush()
    assert stalled.wait(60) == 0


def test_the_mask_leaves_alone_what_is_too_short() -> None:
    assert Mask(["abo"]).hide("about") == "about"
