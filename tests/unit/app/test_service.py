"""The end of the process; what the running service does is tested in `integration/test_main_path.py`."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import threading
from async_motion.app import service

service.LAST_WORDS_S = 0.2
threading.Thread(target=threading.Event().wait, name='reader').start()
service.bound_exit()
"""


def test_a_thread_that_hangs_does_not_hold_up_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a thread or a connection (MainThread, reader) does not end" in done.stderr
    assert "in wait\n" in done.stderr, "the stacks"
