"""A lens is covered, a camera turned, a sensor hangs: from encoded video to the camera's state."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from async_motion.broker.fake import FakeBroker
from async_motion.camera.spec import UnitSettings
from async_motion.camera.unit import CameraUnit
from async_motion.capture import CaptureSpec, open_source
from async_motion.core.events.image_health import ImageHealth
from async_motion.core.health import DeliveryHealth
from async_motion.core.model import EventPhase, Record
from async_motion.core.names import Topics
from async_motion.jpeg import encode
from async_motion.status import Reporter
from tests.support.video import Image, ground, write_clip

SIZE = (160, 120)
FPS = 2
TOPICS = Topics("async_motion/edge1")


def grainy(picture: Image, seconds: float, seed: int) -> Iterator[Image]:
    draw = np.random.default_rng(seed)
    for _ in range(round(seconds * FPS)):
        grain = draw.normal(0, 3, (*picture.shape[:2], 1))
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)


def pictures(problem: str) -> Iterator[Image]:
    """Yield half a minute of a scene that is well, then trouble."""
    scene = ground(*SIZE)
    yield from grainy(scene, 30, 1)
    match problem:
        case "frozen":
            last = next(grainy(scene, 1, 2))
            yield from (last for _ in range(120 * FPS))
        case "dark":
            yield from grainy(np.full_like(scene, 4), 20, 3)
        case "covered":
            yield from grainy(np.full_like(scene, 90), 20, 4)
        case "turned":
            yield from grainy(ground(*SIZE, seed=99), 30, 5)


class Outbox:
    async def accept(self, items: Sequence[Record | EventPhase]) -> None: ...


@pytest.mark.parametrize("problem", ["frozen", "dark", "covered", "turned"])
async def test_it_is_said_in_the_cameras_state(tmp_path: Path, problem: str) -> None:
    path = write_clip(tmp_path / "clip.mp4", pictures(problem), fps=FPS, gop=8)
    source = open_source(CaptureSpec(camera="porch", source=str(path), fps=FPS, speed="max", loop=False))
    broker = FakeBroker()

    async def remember(_key: str, _value: bytes) -> None: ...

    reporter = Reporter(
        broker,
        TOPICS,
        {"porch": ()},
        instance="edge1",
        version="0",
        spool_stats=dict,
        delivery_health=DeliveryHealth,
        remember=remember,
        state_every_s=0.0,
    )
    with ThreadPoolExecutor(2) as executor:
        unit = CameraUnit(
            UnitSettings(instance="edge1", camera="porch"),
            source=source,
            outbox=Outbox(),
            observer=reporter,
            executor=executor,
            encode=partial(encode, quality=80, max_width=None),
            draw24=lambda: 0,
            health=ImageHealth().update,
        )
        await unit.run()
    await source.aclose()
    states = [json.loads(message.payload) for message in broker.server.on(TOPICS.camera_state("porch"))]
    said = [state["problem"] for state in states if state["status"] == "watching"]
    assert said[0] is None
    assert set(said) == {None, problem}
