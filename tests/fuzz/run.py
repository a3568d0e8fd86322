"""The parent: draws cases, serves them, watches the child, and reports failures."""

from __future__ import annotations

import base64
import json
import random
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from tests.fuzz import hostile, target
from tests.fuzz.mutate import STILLS, corpus, mutated
from tests.support.rtsp import access_units
from tests.support.trap import Trap
from tests.support.video import make_clip

ANSWER_S = 90.0
"""A child that is silent for this long hangs."""

WARM = 100
"""Cases after which the child has loaded all that it loads lazily."""

LATE_S = 15.0
"""How old a frame of an undamaged stream may be: the wrong times are at least 25 s away."""

MAX_PEAK = 512 << 20
MAX_GROWTH = 96 << 20
"""Bytes that the child may hold at the end beyond its warm level: the allocator's pools are not flat."""


class Fuzz:
    """A run of one seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.problems: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.number = 0
        self._folder = folder
        self._files = corpus(folder)
        self._units = access_units(make_clip(folder / "rtsp.mp4", size=(96, 64), seconds=3, fps=10, gop=5))
        self._server = hostile.Server()
        self._trap = Trap()
        self._child = self._start()
        self._warm: dict[str, Any] | None = None
        self._last: dict[str, Any] = {}
        self._peak = 0
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._trap.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._trap.__exit__(*exc)
        self._server.close()
        self._stop()

    def run(self, *, seconds: float = float("inf"), cases: int | None = None) -> None:
        """Run one case after the other, for `seconds` or until `cases` have run."""
        deadline = time.monotonic() + seconds
        said = time.monotonic()
        while time.monotonic() < deadline and (cases is None or self.number < cases):
            self.case(self.number)
            self.number += 1
            if time.monotonic() - said > 60:
                said = time.monotonic()
                print(self._line(), flush=True)

    def case(self, number: int) -> dict[str, Any]:
        """Run one case of the seed; return its result."""
        draw = random.Random(f"{self.seed}/{number}")
        case = self._draw(draw, f"{self.seed}/{number}/answer")
        result = self._ask(case)
        self._server.hang_up()
        what = f"case {number} ({case['kind']})"
        if result is None:
            self.problems.append(f"{what}: {self._end_of_child()}")
            self._child, self._warm = self._start(), None
            return {}
        self._last = result
        self._peak = max(self._peak, result["peak"])
        self.outcomes[f"{case['kind']}: {result['outcome']}"] += 1
        self.frames[case["kind"]] += result["frames"]
        if result["bug"]:
            self.problems.append(f"{what}: {result['bug']}")
        if result["left"]:
            self.problems.append(f"{what}: {result['left']} threads do not end")
        if self._trap.caught:
            self.problems.append(f"{what}: came to another address: {self._trap.caught!r}")
            self._trap.caught.clear()
        if result["peak"] > MAX_PEAK:
            self.problems.append(f"{what}: {result['peak'] >> 20} MiB of memory")
        if self._warm is None and number >= WARM:
            self._warm = result
        return result

    def report(self) -> int:
        """Print the results; return the exit code."""
        warm, last = self._warm, self._last
        if warm is not None:
            if last["rss"] - warm["rss"] > MAX_GROWTH:
                self.problems.append(f"memory grew from {warm['rss'] >> 20} to {last['rss'] >> 20} MiB")
            for what in ("threads", "fds"):
                if last[what] > warm[what] + 1:
                    self.problems.append(f"{what} grew from {warm[what]} to {last[what]}")
        print(self._line())
        for outcome, count in sorted(self.outcomes.items()):
            print(f"  {count:7} {outcome}")
        print("  frames:", ", ".join(f"{count} of {kind}" for kind, count in self.frames.items()))
        for problem in self.problems:
            print(f"PROBLEM {problem}\n  again: python -m tests.fuzz --seed {self.seed} --only NUMBER")
        return 1 if self.problems else 0

    def _line(self) -> str:
        warm = self._warm or self._last
        minutes = (time.monotonic() - self._began) / 60
        return (
            f"{self.number} cases in {minutes:.1f} min, {self.frames.total()} frames, "
            f"{len(self.problems)} problems; memory {warm['rss'] >> 20} MiB when warm, "
            f"{self._last['rss'] >> 20} now, {self._peak >> 20} at most; threads {warm['threads']} and "
            f"{self._last['threads']}, handles {warm['fds']} and {self._last['fds']}"
        )

    def _draw(self, draw: random.Random, answer: str) -> dict[str, Any]:
        """Return a case: `kind`, and the keys that the child reads."""
        trap = f"http://{self._trap.place}"
        files, names = self._files, sorted(self._files)
        decode = draw.choice(("all", "all", "auto", "keyframes"))
        kind = draw.choices(("file", "stills", "http", "rtsp"), (10, 2, 4, 4))[0]
        self._server.seed = answer
        port = self._server.port
        if kind == "http" and draw.random() < 0.25:
            whole = files["still.jpg"]
            self._server.answer = lambda connection, by: hostile.damaged(connection, by, whole)
            return {
                "kind": kind,
                "source": f"http://me:secret@127.0.0.1:{port}/video",
                "truth": base64.b64encode(whole).decode(),
            }
        if kind == "http":
            self._server.answer = lambda connection, by: hostile.http(connection, by, files, trap)
            return {"kind": kind, "decode": decode, "source": f"http://me:secret@127.0.0.1:{port}/video"}
        if kind == "rtsp" and draw.random() < 0.3:
            units = self._units
            self._server.answer = lambda connection, by: hostile.odd_times(connection, by, units)
            return {"kind": kind, "decode": decode, "source": f"rtsp://127.0.0.1:{port}/cam", "late": LATE_S}
        if kind == "rtsp":
            units = self._units
            self._server.answer = lambda connection, by: hostile.rtsp(connection, by, units, trap)
            transport = draw.choice((*["tcp"] * 9, "udp"))
            source = f"rtsp://me:secret@127.0.0.1:{port}/cam"
            return {"kind": kind, "decode": decode, "transport": transport, "source": source}
        name = draw.choice([name for name in names if name.startswith("still") == (kind == "stills")])
        data = mutated(draw, files[name], files[draw.choice(names)], trap)
        folder = self._folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if kind == "stills":
            (folder / f"a{draw.choice(STILLS)}").write_bytes(data)
            return {"kind": kind, "source": str(folder)}
        # Under its own name, or under a name that suggests another format.
        path = folder / draw.choice(
            (name, name, name, "list.m3u8", "x.sdp", "x.ffconcat", draw.choice(names))
        )
        path.write_bytes(data)
        return {"kind": kind, "decode": decode, "source": str(path)}

    # The child

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", target.__name__]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, case: dict[str, Any]) -> dict[str, Any] | None:
        """Return the child's answer; None when it died or hangs."""
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            print(json.dumps(case), file=child.stdin, flush=True)
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([child.stdout], [], [], ANSWER_S)
        line = child.stdout.readline() if ready else ""
        return json.loads(line) if line else None

    def _end_of_child(self) -> str:
        hangs = self._child.poll() is None
        try:
            self._child.wait(5)
            hangs = False
        except subprocess.TimeoutExpired:
            pass
        code = self._stop()
        return f"the child hangs for {ANSWER_S:g} s" if hangs else f"the child died with {code}"

    def _stop(self) -> int:
        child = self._child
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        try:
            return child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait(20)
