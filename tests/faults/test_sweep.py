"""A sweep of kills with a stride. The full one is `python -m tests.faults.sweep`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import trace
from tests.faults.sweep import StoreKind, run_sweep
from tests.support.need import need
from tests.support.service import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("store", "stride"), [("s3", 101), ("directory", 127)])
async def test_a_kill_at_any_call_loses_nothing_accepted(
    store: StoreKind, stride: int, tmp_path: Path
) -> None:
    need(trace.possible(), "Linux on x86-64 or ARM64")
    verdict = await run_sweep(tmp_path, store, first=stride // 2, stride=stride)
    print(verdict.figures)
    assert verdict.problems == []
    assert verdict.figures["kills"] >= 4


def test_the_calls_of_all_threads_are_counted(tmp_path: Path) -> None:
    need(trace.possible(), "Linux on x86-64 or ARM64")
    # In a process of its own: the tracer forks, and makes itself die with its parent.
    script = (
        "import os, sys, threading\n"
        "from tests.faults.trace import run_traced\n"
        "def write():\n"
        "    for _ in range(5):\n"
        "        os.write(2, b'')\n"
        "def body():\n"
        "    threads = [threading.Thread(target=write) for _ in range(4)]\n"
        "    [thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "    os.rename(sys.argv[1], sys.argv[2])\n"
        "    return 7\n"
        "open(sys.argv[1], 'w').close()\n"
        "ends = [run_traced(body, number) for number in (21, 20, None)]\n"
        "print([end.killed_at or end.code for end in ends])\n"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "['rename', 'write', 7]\n"
