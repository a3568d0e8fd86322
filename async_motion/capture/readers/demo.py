"""The synthetic camera: an evening garden in which a person walks past now and then.

The scene depends only on its own time, so that every run shows the same: quiet for `FIRST_S`, then `MOTION_S`
of motion in every `PERIOD_S`, each time by the next actor. Actors enter and leave across the image's edge, so
the quiet image is always the same except for a little sensor noise and the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.capture.clock import PtsClock
from async_motion.capture.handover import FrameSink
from async_motion.capture.spec import CaptureSpec
from async_motion.core.model import Frame, Image

WIDTH, HEIGHT = 1280, 720
FIRST_S, MOTION_S, PERIOD_S = 3.0, 6.0, 16.0
DEFAULT_FPS = 25.0
NOISE_PLATES = 8

Colour = tuple[int, int, int]


class Garden:
    """Draws the garden at a given scene time."""

    def __init__(self) -> None:
        draw = np.random.default_rng(20261122)
        self._backdrop = _backdrop(draw)
        self._noise: list[NDArray[np.int8]] = [
            np.clip(draw.normal(0.0, 1.4, (HEIGHT, WIDTH, 1)).round(), -6, 6)
            .astype(np.int8)
            .repeat(3, axis=2)
            for _ in range(NOISE_PLATES)
        ]

    def draw(self, at_s: float, label: str) -> Image:
        """Return the (720, 1280, 3) uint8 BGR image at scene time `at_s`, with `label` in its corner."""
        image = self._backdrop.copy()
        if (progress := moving(at_s)) is not None:
            number = int((at_s - FIRST_S) // PERIOD_S)
            ACTORS[number % len(ACTORS)](image, progress, at_s)
        plate = self._noise[int(at_s * DEFAULT_FPS) % NOISE_PLATES]
        noisy: Image = cv2.add(image, plate, dtype=cv2.CV_8U).astype(np.uint8, copy=False)
        for shift, grey in ((1, 40), (0, 235)):  # a shadow keeps the text readable on any ground
            corner = (24 + shift, HEIGHT - 24 + shift)
            cv2.putText(noisy, label, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (grey,) * 3, 1, cv2.LINE_AA)
        return noisy


class DemoReader:
    """Plays the scene at `fps`."""

    def __init__(self, spec: CaptureSpec) -> None:
        self._spec = spec

    def __call__(self, sink: FrameSink, clock: PtsClock) -> None:
        """Draw frames and hand them over until `sink.stopping`."""
        spec = self._spec
        garden = Garden()
        step = 1.0 / (spec.fps if spec.fps != float("inf") else DEFAULT_FPS)
        sink.reader_opened()
        clock.anchor(0.0)
        number = 0
        while not sink.stopping:
            played = number * step
            ahead = clock.due(played) - spec.monotonic()
            if ahead < -1.0:
                clock.anchor(played)
            elif ahead > 0 and not sink.reader_wait(ahead):
                return
            stamp = clock.stamp(clock.due(played))
            colour = garden.draw(played, _label(stamp.captured_at))
            luma = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
            sink.reader_progress()
            sink.reader_offer(
                Frame(
                    camera=spec.camera,
                    captured_at=stamp.captured_at,
                    monotonic=stamp.monotonic,
                    luma=luma,
                    bgr=partial(np.copy, colour),
                    nbytes=colour.nbytes + luma.nbytes,
                )
            )
            number += 1


def moving(at_s: float) -> float | None:
    """Return the progress of the current actor at scene time `at_s`, 0..1; None while the scene is quiet."""
    if at_s < FIRST_S:
        return None
    into = (at_s - FIRST_S) % PERIOD_S
    return into / MOTION_S if into < MOTION_S else None


def _label(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC   async_motion demo"


def _backdrop(draw: np.random.Generator) -> Image:
    """Return the scene without its actors."""
    horizon = 380
    sky_top, sky_low = np.array([122.0, 84.0, 58.0]), np.array([150.0, 190.0, 246.0])
    grass_far, grass_near = np.array([74.0, 122.0, 96.0]), np.array([48.0, 92.0, 66.0])
    rows = np.linspace(0.0, 1.0, horizon)[:, None] ** 1.4
    sky = sky_top + (sky_low - sky_top) * rows
    rows = np.linspace(0.0, 1.0, HEIGHT - horizon)[:, None]
    grass = grass_far + (grass_near - grass_far) * rows
    columns = np.concatenate([sky, grass])[:, None, :].repeat(WIDTH, axis=1)
    # A soft sun, and a texture so that the detector and the encoder meet more than flat colour.
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    glow = np.exp(-((x - 930.0) ** 2 + (y - 330.0) ** 2) / (2 * 150.0**2))[..., None]
    columns += glow * np.array([20.0, 50.0, 60.0])
    blades = np.asarray(
        cv2.resize(draw.normal(0, 9.0, (HEIGHT // 3, WIDTH // 2)), (WIDTH, HEIGHT)), np.float64
    )
    blades[:horizon] *= 0.08
    image: Image = np.clip(columns + blades[..., None], 0, 255).astype(np.uint8)
    for base, height, wave, colour in ((392, 90, 210.0, (112, 118, 110)), (398, 46, 130.0, (82, 106, 92))):
        ridge = [
            (i, int(base - height * (0.55 + 0.45 * math.sin(i / wave + base))))
            for i in range(0, WIDTH + 1, 8)
        ]
        _polygon(image, [(0, base + 8), *ridge, (WIDTH, base + 8)], colour)
    _polygon(image, [(0, 610), (WIDTH, 560), (WIDTH, 640), (0, 690)], (128, 146, 158))  # the path
    _house(image)
    for x0, size in ((560, 120), (660, 84), (1190, 150)):
        cv2.rectangle(image, (x0 - size // 14, 400), (x0 + size // 14, 470), (44, 62, 80), -1)
        for dx, dy, part in ((0, -60, 0.52), (-32, -26, 0.42), (34, -22, 0.42)):
            centre = (x0 + dx * size // 120, 420 + dy * size // 120)
            cv2.circle(image, centre, int(size * part), (56, 92, 62), -1, cv2.LINE_AA)
    return image


def _house(image: Image) -> None:
    _polygon(image, [(130, 300), (400, 300), (400, 520), (130, 520)], (176, 200, 216))
    _polygon(image, [(100, 306), (265, 190), (430, 306)], (70, 74, 132))
    for x0 in (164, 308):
        cv2.rectangle(image, (x0, 346), (x0 + 58, 408), (110, 196, 250), -1)
        cv2.rectangle(image, (x0, 346), (x0 + 58, 408), (90, 110, 126), 3)
    cv2.rectangle(image, (240, 420), (292, 520), (62, 78, 116), -1)


def _polygon(image: Image, points: list[tuple[int, int]], colour: Colour) -> None:
    cv2.fillPoly(image, [np.array(points, np.int32)], colour, cv2.LINE_AA)


def _walker(coat: Colour, *, rightwards: bool, height: int) -> Callable[[Image, float, float], None]:
    def act(image: Image, progress: float, at_s: float) -> None:
        along = progress if rightwards else 1.0 - progress
        x = int(-80 + along * (WIDTH + 160))
        foot = int(652 - 0.039 * x)
        hip, neck = foot - height // 2, foot - int(height * 0.84)
        swing = math.sin(at_s * 6.0) * height * 0.16
        for side in (1, -1):
            cv2.line(image, (x, hip), (int(x + side * swing), foot), (52, 44, 40), height // 9, cv2.LINE_AA)
            hand = (int(x - side * swing * 0.9), int(hip + height * 0.02))
            cv2.line(image, (x, neck + height // 12), hand, coat, height // 14, cv2.LINE_AA)
        cv2.line(image, (x, hip), (x, neck + height // 16), coat, height // 5, cv2.LINE_AA)
        cv2.circle(image, (x, foot - int(height * 0.92)), height // 11, (150, 184, 222), -1, cv2.LINE_AA)

    return act


def _car(image: Image, progress: float, at_s: float) -> None:
    x = int(-260 + progress * (WIDTH + 520))
    y = int(622 - 0.039 * x)
    body = (60, 60, 188)
    _polygon(image, [(x - 70, y - 50), (x - 40, y - 92), (x + 40, y - 92), (x + 78, y - 50)], (214, 196, 170))
    cv2.rectangle(image, (x - 130, y - 54), (x + 130, y), body, -1)
    for wheel in (x - 76, x + 76):
        cv2.circle(image, (wheel, y), 26, (36, 36, 36), -1, cv2.LINE_AA)
        spoke = (int(wheel + 20 * math.cos(at_s * 9)), int(y + 20 * math.sin(at_s * 9)))
        cv2.line(image, (wheel, y), spoke, (170, 170, 170), 4, cv2.LINE_AA)


def _dog(image: Image, progress: float, at_s: float) -> None:
    x = int(WIDTH + 90 - progress * (WIDTH + 180))
    y = int(648 - 0.039 * x - abs(math.sin(at_s * 7.0)) * 14)
    coat = (58, 96, 150)
    for leg in (-44, -30, 30, 44):
        foot = int(x + leg + math.sin(at_s * 14.0 + leg) * 14)
        cv2.line(image, (x + leg, y - 40), (foot, y), coat, 11, cv2.LINE_AA)
    cv2.ellipse(image, (x, y - 54), (64, 28), 0, 0, 360, coat, -1, cv2.LINE_AA)
    cv2.circle(image, (x - 72, y - 80), 24, coat, -1, cv2.LINE_AA)
    cv2.line(image, (x + 58, y - 64), (x + 92, int(y - 92 + math.sin(at_s * 12) * 10)), coat, 9, cv2.LINE_AA)


ACTORS: tuple[Callable[[Image, float, float], None], ...] = (
    _walker((64, 64, 206), rightwards=True, height=210),
    _car,
    _walker((170, 120, 40), rightwards=False, height=190),
    _dog,
)
