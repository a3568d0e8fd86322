"""The two queues of frames: what they drop when full, and when they report room or completion."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from async_motion.camera.queues import Backlog, DropOldestQueue, Job
from async_motion.core.events.pre_roll import Judged
from async_motion.core.model import Detection, Reason
from tests.support.frames import make_frame
from tests.support.records import end_of, make_event, start_of

MOVING = Detection(motion=True, reason=Reason.MOTION, score=0.5)
frame = partial(make_frame, nbytes=100)


def judged(*times: float) -> list[Judged]:
    return [(frame(at), MOVING) for at in times]


def start(*times: float, pre: int = 0, index: int = 0) -> Job:
    one = make_event(index=index)
    return Job(event=one, stills=judged(*times), phase=start_of(one), before_phase=pre + 1)


def middle(*times: float, hold: bool = False, index: int = 0) -> Job:
    return Job(event=make_event(index=index), stills=judged(*times), hold=hold)


def times_of(job: Job | None) -> list[float]:
    assert job is not None
    return [one.monotonic for one, _ in job.stills]


def test_a_full_queue_drops_the_oldest_and_counts_it() -> None:
    async def main() -> None:
        waiting = DropOldestQueue(2)
        assert [waiting.put(frame(at)) for at in range(4)] == [0, 0, 1, 1]
        assert len(waiting) == 2
        waiting.close()
        got = [await waiting.get(), await waiting.get()]
        assert [one.monotonic for one in got if one is not None] == [2, 3]
        assert await waiting.get() is None
        assert await waiting.get() is None

    asyncio.run(main())


def test_a_queue_reports_when_there_is_room() -> None:
    async def main() -> None:
        waiting = DropOldestQueue(1)
        await waiting.room()
        waiting.put(frame(0))
        async with asyncio.TaskGroup() as tasks:
            room = tasks.create_task(waiting.room())
            await asyncio.sleep(0)
            assert not room.done()
            await waiting.get()

    asyncio.run(main())


def test_a_cancelled_get_loses_no_frame() -> None:
    async def main() -> None:
        waiting = DropOldestQueue(4)
        getting = asyncio.create_task(waiting.get())
        await asyncio.sleep(0)
        waiting.put(frame(7))
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting
        got = await waiting.get()
        assert got is not None
        assert got.monotonic == 7

    asyncio.run(main())


def test_the_backlog_gives_jobs_in_order_and_counts_their_bytes() -> None:
    async def main() -> None:
        backlog = Backlog(1000)
        backlog.put(start(0, 1))
        backlog.put(middle(2))
        assert backlog.nbytes == 300
        assert backlog.trim() == 0
        backlog.close()
        assert times_of(await backlog.get()) == [0, 1]
        assert backlog.nbytes == 100
        assert times_of(await backlog.get()) == [2]
        assert await backlog.get() is None
        assert backlog.nbytes == 0

    asyncio.run(main())


def test_the_middle_of_an_event_goes_before_its_opening_and_never_a_phase() -> None:
    backlog = Backlog(300)
    end = Job(event=make_event(), phase=end_of(make_event()))
    for job in (start(0, 1, 2, pre=1), middle(3), middle(4), end, start(5, index=1)):
        backlog.put(job)
    # 600 bytes: drops both middle jobs, then the frames after the opening frame of the first event.
    assert backlog.trim() == 3
    assert [times_of(job) for job in backlog.drain()] == [[0, 1], [], [5]]


def test_of_an_opening_the_opening_frame_goes_last() -> None:
    for bound, left in ((400, [0, 1, 2, 3]), (300, [0, 1, 2]), (200, [1, 2]), (100, [2]), (0, [])):
        backlog = Backlog(bound)
        backlog.put(start(0, 1, 2, 3, pre=2))
        backlog.trim()
        (job,) = backlog.drain()
        assert times_of(job) == left
        assert job.phase is not None


def test_a_better_frame_makes_the_held_one_of_its_event_needless() -> None:
    backlog = Backlog(10**6)
    for job in (
        middle(0, hold=True, index=1),
        middle(1, hold=True),
        middle(2),
        middle(3, hold=True),
    ):
        backlog.put(job)
    assert backlog.nbytes == 300
    assert [times_of(job) for job in backlog.drain()] == [[0], [2], [3]]
    assert backlog.nbytes == 0


def test_the_backlog_says_when_it_is_within_its_bound() -> None:
    async def main() -> None:
        backlog = Backlog(100)
        backlog.put(middle(0))
        await backlog.room()
        backlog.put(middle(1))
        async with asyncio.TaskGroup() as tasks:
            room = tasks.create_task(backlog.room())
            await asyncio.sleep(0)
            assert not room.done()
            await backlog.get()

    asyncio.run(main())


def test_there_is_room_again_once_frames_were_dropped() -> None:
    async def main() -> None:
        backlog = Backlog(100)
        backlog.put(start(0, 1, 2))
        assert backlog.trim() == 2
        await backlog.room()

    asyncio.run(main())


def test_a_drained_backlog_is_empty_but_not_closed() -> None:
    async def main() -> None:
        backlog = Backlog(100)
        backlog.put(middle(0))
        backlog.drain()
        async with asyncio.TaskGroup() as tasks:
            got = tasks.create_task(backlog.get())
            await asyncio.sleep(0)
            assert not got.done()
            backlog.put(middle(1))
        assert times_of(got.result()) == [1]

    asyncio.run(main())
