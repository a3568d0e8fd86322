"""Ray as the engine sees it, without a cluster; `tests/integration/test_scan_ray.py` has a real one."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from async_motion.errors import UsageError
from async_motion.scan import Recording, ScanOutcome, ScanTask
from async_motion.scan.cluster import MAX_RETRIES, RayCluster, RayUnavailable
from async_motion.settings import Settings
from tests.unit.scan.kit import spec_of

PORCH = Recording(place="/nowhere/a.mp4", name="a.mp4", size=1, camera="porch")


class FakeRay(ModuleType):
    """The part of Ray's API that the engine uses. A reference gives an outcome at once, or fails."""

    def __init__(self) -> None:
        super().__init__("ray")

        class RayError(Exception):
            pass

        self.exceptions = SimpleNamespace(RayError=RayError)
        self.asked: dict[str, Any] = {}
        self.refuses: Exception | None = None
        self.fails = False
        self.left = False

    def init(self, **how: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.asked |= how

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def shutdown(self) -> None:
        self.left = True

    def remote(self, **how: Any) -> Any:
        self.asked |= how

        def wrap(work: Any) -> Any:
            async def run(task: ScanTask) -> ScanOutcome:
                if self.fails:
                    raise self.exceptions.RayError("node died")
                return ScanOutcome(recording=task.recording, frames=len(work.__name__))

            return SimpleNamespace(remote=run)

        return wrap


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


TASK = ScanTask(recording=PORCH, spec=spec_of(Settings(), PORCH))


async def test_a_task_is_one_cpu_and_comes_back(ray: FakeRay) -> None:
    async with RayCluster("head:6379") as engine:
        assert engine.slots == 3
        outcome = await engine.run(TASK, lambda _share: None)
        assert outcome.problem is None
        assert (ray.asked["address"], ray.asked["num_cpus"]) == ("head:6379", 1)
        assert ray.asked["max_retries"] == MAX_RETRIES
        ray.fails = True
        lost = await engine.run(TASK, lambda _share: None)
        assert lost.problem is not None
        assert "RayError" in lost.problem
        assert not lost.stops
    assert ray.left


async def test_a_cluster_that_refuses_is_one_clear_line(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    ray.refuses = ConnectionError("token very-secret")
    with pytest.raises(
        RayUnavailable, match="no cluster answers at head:1, or it does not take our token"
    ) as caught:
        async with RayCluster("head:1"):
            pass
    assert "very-secret" not in str(caught.value)


@pytest.mark.usefixtures("ray")
async def test_a_cluster_without_a_token_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with caplog.at_level(logging.WARNING):
        async with RayCluster("auto"):
            pass
    assert "RAY_AUTH_MODE is not token" in caplog.text


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'async-motion\[ray\]'"):
        RayCluster("auto")
