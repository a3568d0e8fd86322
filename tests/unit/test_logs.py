"""The log is readable where a person reads it, JSON elsewhere, and never says a secret."""

from __future__ import annotations

import json
import logging

import pytest

from async_motion.logs import setup_logging


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
