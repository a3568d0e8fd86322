"""The real service as a process, run as a user would, with access to its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without variables that would change the settings, plus `more`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ASYNC_MOTION", "MINIO_", "AWS_"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"} | more


class Service:
    """`python -m async_motion run` in `folder`, with `settings` as its variables.yaml.

    As a context manager it is stopped with SIGTERM at the end, and must exit with code 0.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.config = folder / "variables.yaml"
        self.config.write_text(yaml.safe_dump({"log": {"level": "info", "format": "json"}, **settings}))
        self.log_file = folder / "service.log"
        self._env = clean_environment(**(env or {}))
        self._wrapper = list(wrapper)
        self._process: subprocess.Popen[bytes] | None = None

    # -- life

    def start(self) -> Self:
        """Start it, or restart it after it has ended; the log continues in the same file."""
        assert self._process is None or self._process.poll() is not None, "it is still running"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._wrapper, sys.executable, "-m", "async_motion", "run", "--config", str(self.config)],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self

    def stop(self, within_s: float = 60.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(within_s)

    def kill(self) -> None:
        """Send SIGKILL and wait for its end."""
        self.process.kill()
        self.process.wait()

    def wait(self, within_s: float = 60.0) -> int:
        """Wait until it ends by itself and return the exit code.

        Raises AssertionError if it does not; then its log ends with the stacks of its threads.
        """
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler writes the stacks
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            raise AssertionError(f"still running after {within_s:g} s:\n{self.log_text()[-4000:]}") from None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.running:
            return
        if kind is not None:
            self.kill()
            return
        code = self.stop()
        assert code == 0, f"exit code {code}:\n{self.log_text()[-4000:]}"

    # -- log

    def log_text(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace") if self.log_file.exists() else ""

    def log(self) -> list[dict[str, Any]]:
        """Return the entries of the log so far, oldest first; a line that is being written is left out."""
        return [json.loads(line) for line in self.log_text().split("\n")[:-1] if line.startswith("{")]

    def messages(self) -> list[str]:
        """Return the messages of the log so far, oldest first."""
        return [str(entry["event"]) for entry in self.log()]

    def wait_for_log(self, text: str, *, within_s: float = 60.0, times: int = 1) -> str:
        """Return the `times`-th message that contains `text`; wait, and fail early if the service ends."""

        def found() -> str | None:
            ended = not self.running
            said = [message for message in self.messages() if text in message]
            if len(said) >= times:
                return said[times - 1]
            assert not ended, f"ended before it said {text!r}:\n{self.log_text()[-4000:]}"
            return None

        said = eventually(found, within_s=within_s, what=f"{text!r} in the log of {self.folder}")
        assert said is not None
        return said
