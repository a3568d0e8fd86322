"""What the event index costs: python -m tests.benchmarks.index [--events 1500]

The real spool takes a day of one camera: each event with its frames, evenly over 24 hours, the index written
at most once in five minutes. Measured are the writes, their bytes, the time of reading the lines (in the
spool's thread) and of packing them, and the size of the spool's file.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from async_motion.core.index import pack_encoded
from async_motion.core.items import FrameUpload
from async_motion.core.options import INDEX_EVERY_S
from async_motion.spool import Spool
from tests.support.clock import Clock
from tests.support.records import end_of, make_event, make_record, start_of
from tests.support.spooling import announce_all, stored

DAY_S = 86400
LEFT_S = 59_000
FRAMES = 3


async def play(path: Path, events: int) -> None:
    """Play a day, and print the cost of its index."""
    clock, rng = Clock(), random.Random(1)
    gap = DAY_S // events
    puts = size = total = 0
    read_s = packed_s = 0.0
    written_at = 0.0
    async with Spool(path, clock=clock, wall=clock.wall) as spool:
        for number in range(events):
            # The tests' clock begins in the morning: the day is played in the rest of it.
            event = make_event(index=number * LEFT_S // events)
            event = replace(
                event, event_id=f"{event.event_id[:-6]}{rng.randrange(1 << 24):06x}", peak_score=rng.random()
            )
            records = [
                make_record(event, seq, size=rng.randrange(64, 999), score=rng.random())
                for seq in range(FRAMES)
            ]
            end = end_of(event, rng.uniform(2.0, 60.0))
            await spool.accept([records[0], start_of(event), *records[1:], end])
            for _ in range(2):
                for upload in await spool.take_uploads(fresh=True, limit=FRAMES + 1):
                    frame = stored(upload) if isinstance(upload, FrameUpload) else None
                    await spool.mark_stored(upload.number, frame)
                await announce_all(spool)
            clock.sleep(gap)
            if (number + 1) * gap - written_at < INDEX_EVERY_S and number + 1 < events:
                continue
            written_at = (number + 1) * gap
            for day in await spool.due_index():
                begun = time.perf_counter()
                lines = await spool.index_lines(day)
                read_s += time.perf_counter() - begun
                begun = time.process_time()
                body = pack_encoded(line.encode() for line in lines)
                packed_s += time.process_time() - begun
                puts, total, size = puts + 1, total + len(body), len(body)
                await spool.mark_indexed(day)
    print(f"{events} events of {FRAMES} frames in a day, index.every {INDEX_EVERY_S:g} s")
    print(f"puts              {puts}, {total / 2**20:.1f} MiB together")
    print(f"the day's file    {size / 1024:.0f} KiB, {size / events:.0f} bytes an event")
    print(f"reading the lines {read_s * 1000:.0f} ms, {read_s / puts * 1000:.1f} ms a write")
    print(f"packing           {packed_s * 1000:.0f} ms of CPU, {packed_s / puts * 1000:.1f} ms a write")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--events", type=int, default=1500)
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.db"
        asyncio.run(play(path, events))
        print(f"the spool's file  {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
