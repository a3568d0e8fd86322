"""Who stands, and what has parked, while a light changes, on drawn scenes.

    python -m tests.benchmarks.lights [--fps 5] [--only lamp,room] [--each]

A person walks in at 9 s, stands from 14 s and leaves at 60 s, or something parks at 14 s, while a light
changes. For each kind of light it prints how many frames with the person are motion, and how many frames
without one (where something parks, those from 26 s after that). `--each` prints every scene. The scenes come
from seeds: they are the same on every machine.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Luma

Plane = NDArray[np.float32]
_HEIGHT, _WIDTH = 180, 320
_ARRIVES_S, _STANDS_S, _LEAVES_S, _GONE_S, _ENDS_S = 9.0, 14.0, 60.0, 65.0, 90.0
_FIRST_S, _RESTS_S = 7.0, 26.0
_TALL, _WIDE = 50, 16
_CONTRASTS = 14, 35, -30
"""How much brighter than the ground the person is, in grey levels."""
_SWITCHES = [20.0, 32.0, 44.0]


class Scene(NamedTuple):
    """One drawn scene. The light is switched at the times `at` (s); `gain` is its strongest factor."""

    kind: str
    seed: int
    contrast: int
    gain: float
    at: tuple[float, ...]
    parks: bool = False


class Result(NamedTuple):
    """Frames that are motion, and all frames, with a person and without."""

    found: int
    seen: int
    false: int
    empty: int


def _every(seconds: float) -> tuple[float, ...]:
    return tuple(np.arange(18.0, _ENDS_S - 2.0, seconds).tolist())


def scenes() -> list[Scene]:
    """Return all scenes."""
    drawn: list[tuple[str, float, tuple[float, ...], bool]] = []
    for gain in (0.6, 1.4):
        drawn += [(kind, gain, tuple(_SWITCHES), False) for kind in ("room", "lamp", "half", "slope")]
    drawn += [("shadow", 1.5, (20.0,), False), ("lamp_shadow", 1.5, (20.0,), False)]
    drawn += [("fade", 1.5, tuple(_SWITCHES), False), ("keyframe", 1.0, _every(10.0), False)]
    drawn += [("torch", 1.6, (22.0, 34.0, 70.0), False)]
    for parks, seconds in itertools.product((False, True), (1.0, 2.5, 5.0, 16.0)):
        drawn += [(kind, 1.3, _every(seconds), parks) for kind in ("room", "lamp")]
    drawn += [("keyframe", 1.0, _every(10.0), True), ("shadow", 1.4, tuple(_SWITCHES), True)]
    return [
        Scene(kind, seed, contrast, gain, at, parks)
        for (kind, gain, at, parks), contrast, seed in itertools.product(drawn, _CONTRASTS, range(2))
    ]


def _ground(draw: np.random.Generator) -> Plane:
    coarse = draw.integers(70, 150, (9, 16)).astype(np.float32)
    grain = draw.normal(0.0, 12.0, (_HEIGHT, _WIDTH)).astype(np.float32)
    ground = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    ground = ground + cv2.GaussianBlur(grain, (0, 0), 1.2)
    for _ in range(10):
        x, y = int(draw.integers(0, _WIDTH - 40)), int(draw.integers(0, _HEIGHT - 40))
        across, down = int(draw.integers(15, 60)), int(draw.integers(10, 50))
        ground[y : y + down, x : x + across] += draw.uniform(-30, 30)
    return np.asarray(np.clip(ground, 20, 210), np.float32)


def _person(draw: np.random.Generator, contrast: int) -> tuple[Plane, Plane]:
    """Return how much brighter than the ground a person's pixels are, and how much of each is the person."""
    patches = draw.normal(0.0, 1.0, (_TALL // 5, _WIDE // 4)).astype(np.float32)
    look = contrast + 0.4 * abs(contrast) * cv2.resize(patches, (_WIDE, _TALL), interpolation=cv2.INTER_CUBIC)
    shape = np.zeros((_TALL, _WIDE), np.float32)
    cv2.ellipse(shape, (_WIDE // 2, _TALL // 8), (_WIDE // 4, _TALL // 8), 0, 0, 360, 1.0, -1)
    cv2.rectangle(shape, (_WIDE // 8, _TALL // 5), (_WIDE - 1 - _WIDE // 8, _TALL - 1), 1.0, -1)
    return np.asarray(look, np.float32), np.asarray(cv2.GaussianBlur(shape, (0, 0), 0.6), np.float32)


def _draw(image: Plane, person: tuple[Plane, Plane], level: float, x: float, y: float) -> None:
    """Draw what is in view of a person whose top left corner is at (x, y), in fractions of a pixel."""
    onto = np.array([[1, 0, x], [0, 1, y]], np.float32)
    size = _WIDTH, _HEIGHT
    look = cv2.warpAffine(person[0], onto, size, borderMode=cv2.BORDER_REPLICATE)
    shape = cv2.warpAffine(person[1], onto, size)
    image += shape * (look + level - image)


def _spot(x: float, y: float, radius: float = 45.0) -> Plane:
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    return np.asarray(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2)), np.float32)


def _shadow(x: int, y: int) -> Plane:
    """Return how much of each pixel is in the shadow of furniture beside (x, y)."""
    corners = [(x, y + 5), (x + 22, y + 9), (x + 30, y + _TALL), (x + 4, y + _TALL)]
    shadow = np.zeros((_HEIGHT, _WIDTH), np.float32)
    cv2.fillConvexPoly(shadow, np.array(corners, np.int32), 1.0)
    return np.asarray(cv2.GaussianBlur(shadow, (0, 0), 0.7), np.float32)


def _lights(scene: Scene, x: int, y: int) -> Mapping[str, Plane]:
    """Return by which factor each light makes the image brighter; the person stands at (x, y)."""
    columns = np.tile(np.arange(_WIDTH, dtype=np.float32), (_HEIGHT, 1))
    even, more = np.ones((_HEIGHT, _WIDTH), np.float32), scene.gain - 1.0
    lamp = 1.0 + more * _spot(x, y + _TALL / 2)
    shadow = _shadow(x + _WIDE + 2, y)
    return {
        "room": even * scene.gain,
        "lamp": lamp,
        "fade": lamp,
        "half": 1.0 + more / (1.0 + np.exp((columns - _WIDTH / 2) / 25.0)),
        "slope": 1.0 + more * (0.35 + 0.65 * columns / _WIDTH),
        "shadow": scene.gain * (1.0 - 0.4 * shadow),
        "lamp_shadow": lamp * (1.0 - 0.35 * shadow),
    }


def _in_light(image: Plane, scene: Scene, light: Plane | None, y: int, at_s: float) -> Plane:
    """Return the image in the light of the time `at_s`."""
    since = min((at_s - switch for switch in scene.at if switch <= at_s), default=np.inf)
    on = sum(switch <= at_s for switch in scene.at) % 2
    if scene.kind == "keyframe":
        sharp = 0.25 + 0.75 * float(np.exp(-since / 0.8))
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.6) * (1.0 - sharp) + image * sharp, np.float32)
    if scene.kind == "torch":
        spot = _spot(-40.0 + (_WIDTH + 80) * since / 1.5, y + _TALL / 2, 25.0) if since < 1.5 else 0.0
        return np.asarray(image * (1.0 + (scene.gain - 1.0) * spot), np.float32)
    assert light is not None
    share = float(on)
    if scene.kind == "fade":
        share = sum((-1) ** index * np.clip((at_s - each) / 0.5, 0, 1) for index, each in enumerate(scene.at))
    return np.asarray(image * (1.0 + share * (light - 1.0)), np.float32)


def frames(scene: Scene, fps: float) -> Iterator[tuple[Luma, int]]:
    """Yield each frame, and 1 with a person, 0 without, -1 where neither is asked for."""
    draw = np.random.default_rng(zlib.crc32(repr(scene).encode()))
    ground, person = _ground(draw), _person(draw, scene.contrast)
    x, y = int(draw.integers(90, 220)), int(draw.integers(60, _HEIGHT - _TALL - 4))
    level = float(np.median(ground[y : y + _TALL, x : x + _WIDE]))
    light, phase = _lights(scene, x, y).get(scene.kind), scene.seed
    for step in range(round(_ENDS_S * fps)):
        at_s, image, label = step / fps, ground.copy(), 0
        walks_in, walks_off = _ARRIVES_S <= at_s < _STANDS_S, _LEAVES_S <= at_s < _GONE_S
        if walks_in or (walks_off and not scene.parks):
            share = (at_s - _ARRIVES_S) / (_STANDS_S - _ARRIVES_S)
            left = (x + 20) * share - 20
            if walks_off:
                left = x + (_WIDTH + 20 - x) * (at_s - _LEAVES_S) / (_GONE_S - _LEAVES_S)
            _draw(image, person, level, left, y + 0.8 * float(np.sin(8.0 * at_s)))
            label = 1
        elif scene.parks and at_s >= _STANDS_S:
            _draw(image, person, level, x, y)
            label = 0 if at_s >= _STANDS_S + _RESTS_S else -1
        elif _STANDS_S <= at_s < _LEAVES_S:
            across = np.sin(1.1 * at_s + phase) + 0.6 * np.sin(2.7 * at_s + 2 * phase)
            _draw(image, person, level, x + float(across), y + 0.3 * float(np.sin(1.7 * at_s + phase)))
            label = 1
        # Around the edge of the image, and at a switch, motion is neither right nor wrong.
        switches = any(abs(at_s - switch) < 0.3 for switch in scene.at) and scene.kind != "keyframe"
        if (_GONE_S - 0.5 <= at_s < _GONE_S + 1.0 and not scene.parks) or (label == 0 and switches):
            label = -1
        lit = _in_light(image, scene, light, y, at_s) + draw.normal(0.0, 1.5, image.shape)
        yield np.clip(lit, 0, 255).astype(np.uint8), label if at_s > _FIRST_S else -1


def judge(job: tuple[Scene, float]) -> Result:
    """Return what the detector finds in a scene, at so many frames a second."""
    scene, fps = job
    detector = Detector(DetectorSettings())
    labels, motion = [], []
    for step, (luma, label) in enumerate(frames(scene, fps)):
        labels.append(label)
        motion.append(detector.update(luma, step / fps).motion)
    with_person, empty, moves = np.equal(labels, 1), np.equal(labels, 0), np.array(motion)
    return Result(
        int(np.sum(moves & with_person)), int(with_person.sum()), int(np.sum(moves & empty)), int(empty.sum())
    )


def _row(name: str, result: Result) -> str:
    return f"| {name} | {result.found}/{result.seen} | {result.false}/{result.empty} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Judges who stands in a light that changes, on drawn scenes."
    )
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--only", help="kinds of light, with commas")
    parser.add_argument("--each", action="store_true", help="print every scene")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = [scene for scene in scenes() if not options.only or scene.kind in options.only.split(",")]
    with multiprocessing.Pool() as pool:
        results = pool.map(judge, [(scene, options.fps) for scene in chosen], chunksize=4)
    print("| light | with a person, found | without, flagged |\n| --- | --- | --- |")
    totals: dict[str, Result] = {}
    for scene, result in zip(chosen, results, strict=True):
        if options.each:
            print(_row(f"{scene}", result))
        name = f"{scene.kind}, parked" if scene.parks else scene.kind
        for key in (name, "all"):
            old = totals.get(key, Result(0, 0, 0, 0))
            totals[key] = Result(*(a + b for a, b in zip(old, result, strict=True)))
    for key in [*(key for key in totals if key != "all"), "all"]:
        print(_row(key, totals[key]))


if __name__ == "__main__":
    main()
