"""Lines for people: what they quote cannot change the terminal."""

from __future__ import annotations

import pytest

from async_motion.cli.tell import printable, tell


def test_a_quoted_key_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    tell("a\x1b[2J\u202eb\nc é")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "a\\u001b[2J\\u202eb\\u000ac é\n"
    assert printable("\U000e0001") == "\\ue0001"
