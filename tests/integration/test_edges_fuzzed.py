"""Each edge, fuzzed for a bounded time, guided by coverage: only the errors that it names escape."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.test_edges import EDGES

ROOT = Path(__file__).parents[2]
SECONDS = 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python and system"
)


def fuzz(edge: str, folder: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Fuzz an edge in `folder`, after the statements `code`."""
    words = ["-m", "tests.fuzz.edges"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *words, edge, "--seconds", str(SECONDS)],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("edge", EDGES)
def test_no_other_error_escapes(edge: str, tmp_path: Path) -> None:
    done = fuzz(edge, tmp_path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "stat::number_of_executed_units" in done.stderr, "it has fuzzed nothing"


@pytest.mark.timeout(300)
def test_an_error_that_escapes_is_found(tmp_path: Path) -> None:
    spoilt = (
        "from tests.unit import test_edges; from tests.fuzz.edges import main; "
        "test_edges.EDGES['JSON'] = (lambda _data: 1 / 0, ValueError); main()"
    )
    done = fuzz("JSON", tmp_path, spoilt)
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stdout + done.stderr
