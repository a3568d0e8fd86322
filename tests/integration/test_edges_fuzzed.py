"""All edges, fuzzed for a bounded time, guided by coverage: only the errors that they name escape."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.edges import EDGES

ROOT = Path(__file__).parents[2]
SECONDS = 20
BUSY_SECONDS = 180
"""On a machine so busy that 20 s were not enough for 100 reads of each edge."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python and system"
)


def fuzz(
    folder: Path, *, seconds: int = SECONDS, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Fuzz in `folder`, after the statements `code`."""
    words = ["-m", "tests.fuzz.edges"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *words, "--seconds", str(seconds)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.timeout(600)
def test_no_other_error_escapes(tmp_path: Path) -> None:
    unread = list(EDGES)
    for seconds in (SECONDS, BUSY_SECONDS):
        done = fuzz(tmp_path, seconds=seconds)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        unread = [edge for edge in EDGES if f"100 reads: {edge}\n" not in done.stderr]
        if not unread:
            break
    assert not unread, f"hardly fuzzed: {unread}"


@pytest.mark.timeout(600)
def test_an_error_that_escapes_is_found(tmp_path: Path) -> None:
    name = "a line of the index"
    spoilt = (
        "from tests.support.edges import EDGES; from tests.fuzz.edges import main; "
        f"EDGES[{name!r}] = EDGES[{name!r}]._replace(read=lambda _data: 1 / 0); main()"
    )
    done = fuzz(tmp_path, code=spoilt)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout + done.stderr
