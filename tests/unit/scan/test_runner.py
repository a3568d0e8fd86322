"""Order, rates and stops, with an engine whose tasks end when the test decides."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from async_motion.scan import Recording, ScanOutcome, ScanProgress, ScanSpec, ScanStopped, ScanTask, scan
from async_motion.scan.task import OnShare
from tests.unit.scan.kit import settings_in, spec_of


class Script:
    """Answers each task by its recording's name; the first tasks end last."""

    def __init__(self, slots: int, answer: Callable[[Recording], ScanOutcome]) -> None:
        self.slots = slots
        self.at_once = self.most = 0
        self._answer = answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.at_once == 0, "a task is still at work"

    async def run(self, task: ScanTask, on_share: OnShare) -> ScanOutcome:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            on_share(0.5)
            for _ in range(20 - int(task.recording.name) % 20):
                await asyncio.sleep(0)
            return self._answer(task.recording)
        finally:
            self.at_once -= 1


def recordings(count: int) -> list[Recording]:
    return [Recording(place=f"/{n}", name=str(n), size=10, camera="porch") for n in range(count)]


def specs(tmp_path: Path) -> dict[str, ScanSpec]:
    return {"porch": spec_of(settings_in(tmp_path), recordings(1)[0])}


async def test_outcomes_come_in_the_recordings_order(tmp_path: Path) -> None:
    engine = Script(4, lambda recording: ScanOutcome(recording=recording, seconds=1.0))
    told: list[float] = []
    outcomes = scan(
        recordings(60), specs(tmp_path), engine, on_progress=lambda progress: told.append(progress.share)
    )
    assert [int(each.recording.name) async for each in outcomes] == list(range(60))
    assert engine.most == 4
    assert told


async def test_a_problem_stops_nothing_but_one_that_stops_does(tmp_path: Path) -> None:
    def answer(recording: Recording) -> ScanOutcome:
        number = int(recording.name)
        return ScanOutcome(
            recording=recording, problem="bad" if number in (1, 5) else None, stops=number == 5
        )

    got: list[str | None] = []

    async def listen() -> None:
        async for outcome in scan(recordings(60), specs(tmp_path), Script(1, answer)):
            got.append(outcome.problem)  # noqa: PERF401  # outcomes before the stop are kept

    with pytest.raises(ScanStopped, match="bad; the same command continues"):
        await listen()
    assert got == [None, "bad", None, None, None]


async def test_tasks_that_stop_in_the_same_moment_are_one_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Script(2, lambda recording: ScanOutcome(recording=recording, problem="store away", stops=True))
    together = [Recording(place=f"/{n}", name=f"{n}", size=10, camera="porch") for n in (19, 39)]
    with pytest.raises(ScanStopped, match="store away"):
        _ = [each async for each in scan(together, specs(tmp_path), engine)]
    gc.collect()  # asyncio logs an error that was not retrieved when its task goes
    assert caplog.records == []


async def test_a_consumer_that_stops_leaves_no_task_behind(tmp_path: Path) -> None:
    outcomes = scan(recordings(60), specs(tmp_path), Script(3, lambda each: ScanOutcome(recording=each)))
    async for _ in outcomes:
        break
    await outcomes.aclose()


def test_the_time_left_is_that_of_the_bytes_that_are_read() -> None:
    one, two, three, four = recordings(4)
    progress = ScanProgress(recordings=4, bytes=40, began=100.0)
    assert progress.left_s(101.0) is None
    progress.finished(ScanOutcome(recording=one, remembered=True, seconds=99))
    assert progress.left_s(101.0) is None, "what was known says nothing about the rate"
    progress.finished(ScanOutcome(recording=two, seconds=7))
    progress.at_work(three, 0.5)
    assert progress.left_s(115.0) == pytest.approx(15.0)
    assert progress.share == pytest.approx(25 / 40)
    assert progress.seconds == 7
    progress.finished(ScanOutcome(recording=three, problem="bad"))
    progress.finished(ScanOutcome(recording=four))
    assert (progress.share, progress.problems, progress.remembered) == (1.0, 1, 1)
