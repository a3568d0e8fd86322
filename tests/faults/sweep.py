"""Kill the service at every system call that makes data durable or sends it.

    python -m tests.faults.sweep --store s3               every one; --stride 50 for each fiftieth
    python -m tests.faults.sweep --store directory        with renames and fsyncs of the embedded store too

A run is short: a recording with one event is watched, stored and announced; then the service ends by itself.
Run N starts empty and is killed at its N-th fsync, rename, unlink, ftruncate, write or send, counted over all
threads. A second run, with the same camera and another event, must complete everything. The sweep ends when
several runs in a row end before reaching their call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.faults.mix import report
from tests.faults.oracle import Oracle, Subscriber, Verdict, watching
from tests.faults.stage import bucket_fetch
from tests.faults.trace import Outcome
from tests.support import s3
from tests.support.mqtt import mosquitto
from tests.support.ports import free_port
from tests.support.service import ROOT, clean_environment
from tests.support.video import make_clip
from tests.support.wait import eventually_async

StoreKind = Literal["s3", "directory"]

CLEAN_RUNS = 5
"""Number of consecutive runs that must end by themselves."""
MAX_REPEATED = 0.5
"""Maximum share of repeats: every second run is a recovery."""
RUN_S = 90.0


@dataclass
class Sweep:
    """What all runs share."""

    folder: Path
    oracle: Oracle
    nursery: subprocess.Popen[str]
    store: dict[str, Any]
    """The settings of the store."""
    broker_port: int
    points: Counter[str] = field(default_factory=Counter)
    """Kills so far, by system call."""
    problems: list[str] = field(default_factory=list)
    clean: int = 0

    async def kill_at(self, number: int) -> None:
        """Kill a run at its `number`-th call, let another run recover, and check the result."""
        name = f"n{number}"
        folder = self.folder / name
        folder.mkdir()
        config = folder / "variables.yaml"
        config.write_text(yaml.safe_dump(self._settings(name, folder)))
        outcome = await self._run(folder, config, number)
        if outcome.killed_at is None:
            self.clean += 1
            self._require(outcome.code == 0, f"{name}: exit code {outcome.code}", folder)
            return
        self.clean = 0
        call = outcome.killed_at
        self.points[call] += 1
        before = len(self._accepted(name))
        outcome = await self._run(folder, config, None)
        self._require(len(self._accepted(name)) > before, f"{name}: no event in the next run", folder)
        where = f"{name} ({call})"
        self._require(outcome.code == 0, f"{where}: exit code {outcome.code} of the next run", folder)
        try:
            await eventually_async(lambda: not self._unannounced(name), within_s=20, what="announcements")
        except AssertionError:
            self._require(False, f"{where}: never announced: {self._unannounced(name)}", folder)

    def _require(self, holds: bool, problem: str, folder: Path) -> None:
        if not holds:
            log = (folder / "log").read_text(errors="replace")[-2000:]
            self.problems.append(f"{problem}\n{log}")

    def _accepted(self, name: str) -> list[str]:
        return [i for i, line in self.oracle.accepted().items() if line["key"].startswith(f"{name}/")]

    def _unannounced(self, name: str) -> list[str]:
        return sorted(self.oracle.unannounced().intersection(self._accepted(name)))

    async def _run(self, folder: Path, config: Path, kill_at: int | None) -> Outcome:
        result = folder / f"result-{kill_at}"
        request = {
            "config": str(config),
            "witness": str(self.oracle.witness),
            "log": str(folder / "log"),
            "result": str(result),
            "kill_at": kill_at,
        }
        assert self.nursery.stdin is not None
        self.nursery.stdin.write(json.dumps(request) + "\n")
        self.nursery.stdin.flush()
        await eventually_async(result.exists, within_s=RUN_S, what=f"the end of a run ({result})")
        return Outcome(**json.loads(result.read_text()))

    def _settings(self, name: str, folder: Path) -> dict[str, Any]:
        camera = {
            "source": str(self.folder / "clip.mp4"),
            "capture": {"speed": "max", "loop": False},
            "detect": {"fps": 10},
            "event": {"frames": {"every": "300ms"}, "pre": "200ms", "off_delay": "300ms"},
        }
        return {
            "instance": name,
            "log": {"level": "info", "format": "json"},
            "shutdown_grace": "30s",
            "spool": {"path": str(folder / "spool.db")},
            "mqtt": {"host": "127.0.0.1", "port": self.broker_port, "discovery": {"enabled": False}},
            "web": {"port": free_port()},
            # A camera for each pair of runs: the oracle checks the order within a camera.
            "cameras": {name: camera},
            **self.store,
        }


@contextlib.asynccontextmanager
async def swept(folder: Path, kind: StoreKind) -> AsyncIterator[Sweep]:
    """Start what a sweep needs around the service."""
    make_clip(folder / "clip.mp4", seconds=2.6, fps=10, start_s=1.0, length_s=0.8, noise=1.0)
    async with contextlib.AsyncExitStack() as stack:
        if kind == "s3":
            store = stack.enter_context(s3.seaweedfs(folder / "seaweedfs"))
            bucket = store.make_bucket()
            fetch = await stack.enter_async_context(bucket_fetch(store, bucket))
            user = store.admin
            minio = {"endpoint": store.endpoint, "bucket": bucket, "create_bucket": False}
            minio |= {"access_key": user.access_key, "secret_key": user.secret_key}
            settings: dict[str, Any] = {"minio": minio}
        else:
            settings = {"directory": {"path": str(folder / "objects")}}

            async def fetch(key: str) -> bytes | None:
                path = folder / "objects" / key
                return path.read_bytes() if path.exists() else None

        broker = stack.enter_context(mosquitto(folder / "broker"))
        oracle = Oracle(folder / "witness.jsonl", fetch)
        await stack.enter_async_context(watching(oracle))
        filters = ("async_motion/+/+/frame", "async_motion/+/+/event")
        stack.enter_context(Subscriber(broker.port, filters, oracle.hear))
        yield Sweep(folder, oracle, stack.enter_context(_nursery()), settings, broker.port)


@contextlib.contextmanager
def _nursery() -> Iterator[subprocess.Popen[str]]:
    # Threads of a BLAS library would not survive the forks.
    words = [sys.executable, "-m", "tests.faults.nursery"]
    env = clean_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    with subprocess.Popen(words, cwd=ROOT, env=env, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def run_sweep(
    folder: Path, kind: StoreKind, *, first: int = 1, stride: int = 1, workers: int = 2, say: bool = True
) -> Verdict:
    """Kill at every `stride`-th call from `first` on, until none is left, and let the oracle judge."""
    async with swept(folder, kind) as sweep:
        numbers = itertools.count(first, stride)
        wanted = CLEAN_RUNS if stride == 1 else 1

        async def work() -> None:
            while sweep.clean < wanted and len(sweep.problems) < 10:
                number = next(numbers)
                await sweep.kill_at(number)
                if say and number % (stride * 50) < stride:
                    print(f"call {number}: {sweep.points.total()} kills", flush=True)

        async with asyncio.TaskGroup() as tasks:
            for worker in range(workers):
                tasks.create_task(work(), name=f"sweep-{worker}")
        verdict = await sweep.oracle.judge(max_repeated=MAX_REPEATED)
        verdict.problems += sweep.problems
        verdict.figures |= {"kills": sweep.points.total(), "at": dict(sweep.points.most_common())}
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description="Kill at every call.")
    parser.add_argument("--store", choices=["s3", "directory"], default="s3")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="async_motion-sweep-") as folder:
        sweeping = run_sweep(
            Path(folder), args.store, first=args.first, stride=args.stride, workers=args.workers
        )
        return report(asyncio.run(sweeping))


if __name__ == "__main__":
    sys.exit(main())
