"""A covered lens, a moved camera, a lost signal: from encoded video to states and events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from async_motion.broker.fake import FakeBroker
from async_motion.camera.spec import UnitSettings
from async_motion.camera.unit import CameraUnit
from async_motion.capture import CaptureSpec, open_source
from async_motion.core.events.image_health import ImageHealth
from async_motion.core.health import DeliveryHealth
from async_motion.core.model import Phase
from async_motion.core.names import Topics
from async_motion.jpeg import encode
from async_motion.status import Reporter
from tests.support.records import MemoryOutbox
from tests.support.video import Image, ground, write_clip

SIZE = (160, 120)
FPS = 2
TOPICS = Topics("async_motion/edge1")


def grainy(image: Image, seconds: float, seed: int, *, fps: int = FPS) -> Iterator[Image]:
    draw = np.random.default_rng(seed)
    for _ in range(round(seconds * fps)):
        grain = draw.normal(0, 3, (*image.shape[:2], 1))
        yield np.clip(image + grain, 0, 255).astype(np.uint8)


def images(problem: str) -> Iterator[Image]:
    """Yield the images of 30 s of a normal scene, then of the problem."""
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


async def watched(
    path: Path, shown: Iterable[Image], *, fps: int
) -> tuple[list[dict[str, Any]], MemoryOutbox]:
    """Return the camera's states and accepted items while it shows these images."""
    write_clip(path, shown, fps=fps, gop=8)
    source = open_source(CaptureSpec(camera="porch", source=str(path), fps=fps, speed="max", loop=False))
    broker, outbox, health = FakeBroker(), MemoryOutbox(), ImageHealth()

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
            outbox=outbox,
            observer=reporter,
            executor=executor,
            encode=partial(encode, quality=80, max_width=None),
            draw24=lambda: 0,
            health=health.update,
            is_placeholder=health.is_placeholder,
        )
        await unit.run()
    await source.aclose()
    states = [json.loads(message.payload) for message in broker.server.on(TOPICS.camera_state("porch"))]
    return states, outbox


@pytest.mark.parametrize("problem", ["frozen", "dark", "covered", "turned"])
async def test_it_is_reported_in_the_cameras_state(tmp_path: Path, problem: str) -> None:
    states, _ = await watched(tmp_path / "clip.mp4", images(problem), fps=FPS)
    said = [state["problem"] for state in states if state["status"] == "watching"]
    assert said[0] is None
    assert set(said) == {None, problem}


def words(colour: tuple[int, int, int], text: str, at: tuple[int, int] = (60, 130)) -> Image:
    image = np.full((240, 320, 3), colour, np.uint8)
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.0, (240, 240, 240), 2)
    return image


def bars() -> Image:
    """Return a test card with eight colour bars, (H, W, 3) BGR."""
    shades = [(blue, green, red) for green in (235, 16) for red in (235, 16) for blue in (235, 16)]
    return np.repeat(np.array([shades], np.uint8), 40, axis=1).repeat(240, axis=0)


def spinner(at: float) -> Image:
    image = words((0, 0, 0), "")
    cv2.ellipse(image, (160, 120), (30, 30), at * 337 % 360, 0, 270, (240, 240, 240), 5, cv2.LINE_AA)
    return image


BLUE = (200, 40, 20)
DRAWN: dict[str, Callable[[float], Image]] = {
    "blue": lambda _at: words(BLUE, ""),
    "no signal": lambda _at: words(BLUE, "NO SIGNAL"),
    "wandering": lambda at: words(BLUE, "NO SIGNAL", (int(20 + 25 * at) % 180, 40 + int(15 * at) % 180)),
    "with a clock": lambda at: words(BLUE, f"{at:06.1f}", (10, 30)),
    "black": lambda _at: words((0, 0, 0), "VIDEO LOSS"),
    "grey card": lambda _at: words((128, 128, 128), ""),
    "bars": lambda _at: bars(),
    "spinner on black": spinner,
    "splash": lambda _at: words((30, 30, 30), "IPCAM"),
}


@pytest.mark.parametrize("kind", DRAWN)
async def test_a_placeholder_image_is_not_an_event(tmp_path: Path, kind: str) -> None:
    """Show placeholders, as a recorder without its camera does: briefly, for long, and repeatedly."""

    def shown() -> Iterator[Image]:
        scene = ground(320, 240)
        yield from grainy(scene, 25, 1, fps=5)
        for seconds in (8, 1, 3):
            yield from (DRAWN[kind](number / 5) for number in range(seconds * 5))
            yield from grainy(scene, 4, seconds, fps=5)

    states, outbox = await watched(tmp_path / "clip.mp4", shown(), fps=5)
    assert outbox.phases == []
    assert outbox.records == []
    assert any(state["status"] == "watching" for state in states)


async def test_a_frozen_image_behind_a_spinner_is_reported_and_hides_no_motion(tmp_path: Path) -> None:
    def shown() -> Iterator[Image]:
        scene = ground(320, 240)
        yield from grainy(scene, 30, 1, fps=5)
        last = next(grainy(scene, 1, 2))
        for number in range(75 * 5):
            image = last.copy()
            cv2.ellipse(image, (160, 120), (40, 40), number * 54, 0, 270, (240, 240, 240), 5, cv2.LINE_AA)
            yield image

    states, outbox = await watched(tmp_path / "clip.mp4", shown(), fps=5)
    assert {state["problem"] for state in states if state["status"] == "watching"} == {None, "frozen"}
    event = outbox.phases[-1].event
    assert event.ended_at is not None
    assert (event.ended_at - event.started_at).total_seconds() > 20, "it could be a person who stands"


@pytest.mark.parametrize(("across", "down"), [(25, 0), (80, 0), (320, 0), (0, 20), (60, 20)])
async def test_a_camera_that_turns_makes_no_event(tmp_path: Path, across: int, down: int) -> None:
    """`across` and `down` are in pixels per second; the image is 320x240."""
    world = ground(1400, 400, seed=3)

    def view(turned_s: float) -> Image:
        x, y = round(turned_s * across), round(turned_s * down)
        return world[y : y + 240, x : x + 320].copy()

    def shown() -> Iterator[Image]:
        for number in range(23 * 5):
            yield from grainy(view(min(max(number / 5 - 8, 0), 3)), 0.2, number, fps=5)
        # Motion after the turn is detected.
        for number in range(10):
            image = view(3)
            cv2.rectangle(image, (20 + 20 * number, 100), (60 + 20 * number, 180), (40, 220, 240), -1)
            yield from grainy(image, 0.2, number, fps=5)

    _, outbox = await watched(tmp_path / "clip.mp4", shown(), fps=5)
    assert [phase.phase for phase in outbox.phases] == [Phase.START, Phase.END]
    began = outbox.phases[0].event.started_at
    ended = outbox.phases[-1].event.ended_at
    assert ended is not None
    assert (ended - began).total_seconds() <= 2.2
