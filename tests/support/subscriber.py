"""A subscriber's program that kills itself at its writes: `python -m tests.support.subscriber` with JSON.

One process imports everything and forks one life after another, so that hundreds of kills take seconds. Each
life continues from what the last one left, until there are `total` events or `stop` exists.

    cursor_file   the client keeps its cursor itself; before that, each event is a synced line in `seen`
    state         the program keeps events and cursor in one file, replaced atomically

A life is killed at its `kill_at`-th write: before it, in the middle (the new file is written, not renamed) or
after it. Writes are counted at the rename, in `Path.replace`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from async_motion.client import connect
from async_motion.errors import AsyncMotionError

PHASES = ("before", "torn", "after")
PAUSE_S = 0.02


def main() -> None:
    """Fork lives until all events were seen."""
    said = json.loads(sys.argv[1])
    chance = random.Random(said["seed"])
    lives = 0
    while not done(said):
        phase, kill_at = PHASES[lives % 3], 1 if said["every"] else chance.randint(1, 4)
        pid = os.fork()
        if pid == 0:
            live(said, phase, kill_at)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status):
            sys.exit(f"a life failed with {os.waitstatus_to_exitcode(status)}")
        lives += 1
        time.sleep(PAUSE_S)
    print(lives)


def done(said: dict[str, Any]) -> bool:
    """Return whether all events were seen, or `stop` exists."""
    return len(set(seen(said))) >= said["total"] or Path(said["stop"]).exists()


def seen(said: dict[str, Any]) -> list[str]:
    """Return the ids of the events that were received, in order."""
    with contextlib.suppress(FileNotFoundError):
        if said["mode"] == "state":
            return [str(each) for each in json.loads(Path(said["state"]).read_text())["seen"]]
        return Path(said["seen"]).read_text().split()
    return []


def live(said: dict[str, Any], phase: str, kill_at: int) -> None:
    """Run the subscriber for one life."""
    count = 0
    replace = Path.replace

    def deadly(self: Path, target: str | Path) -> Path:
        nonlocal count
        count += 1
        if count == kill_at and phase == "before":
            self.unlink()
            die()
        if count == kill_at and phase == "torn":
            die()
        result = replace(self, target)
        if count == kill_at:
            die()
        return result

    Path.replace = deadly  # type: ignore[method-assign,assignment]
    try:
        asyncio.run(subscribe(said))
    except AsyncMotionError as exc:
        print(exc, file=sys.stderr)
        os._exit(3)
    os._exit(0)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def subscribe(said: dict[str, Any]) -> None:
    """Receive events as a user's program would."""
    file = {"cursor_file": said["cursor"]} if said["mode"] == "cursor_file" else {}
    async with connect(instance="edge1", poll_s=0.5, patience_s=60, **said["connect"], **file) as client:
        async for event in client.events(since(said)):
            note(said, event.event_id, client.cursor)
            if done(said):
                client.save()
                return


def since(said: dict[str, Any]) -> str | datetime | None:
    """Return the cursor to continue from; None if the client reads it from its file."""
    if said["mode"] == "cursor_file":
        return None if Path(said["cursor"]).exists() else datetime.fromisoformat(said["since"])
    with contextlib.suppress(FileNotFoundError):
        return str(json.loads(Path(said["state"]).read_text())["cursor"])
    return datetime.fromisoformat(said["since"])


def note(said: dict[str, Any], event: str, cursor: str) -> None:
    """Save an event: as a synced line, or with all events and the cursor in one file."""
    if said["mode"] == "cursor_file":
        with Path(said["seen"]).open("a") as out:
            out.write(f"{event}\n")
            out.flush()
            os.fsync(out.fileno())
    else:
        part = Path(f"{said['state']}.part")
        part.write_text(json.dumps({"seen": [*seen(said), event], "cursor": cursor}))
        part.replace(said["state"])


if __name__ == "__main__":
    main()
