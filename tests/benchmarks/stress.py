"""Accuracy of the detector under adverse weather, light, camera motion and encoding.

    python -m tests.benchmarks.stress [--data PATH] [--seed N] [--cache DIR] [--only light_step,wind]

Makes a stress set from labelled footage at run time. Each disturbance is applied to windows of real
sequences, whose labels carry over, and to stills (the median of a real sequence's frames) with sensor noise,
in which every verdict of motion is a false alarm. The seed draws sequences, strengths, places and times:
choose parameters with one seed, validate with another. Only DIR is written. Takes a minute on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.working_image import u8
from async_motion.core.model import Luma
from async_motion.tune.scoring import EMPTY, UNSCORED, Score, score_frames, total
from tests.benchmarks.accuracy import DEFAULT_DATA, MIN_AREA, frames_of, labels_of

FRAMES = 150
_REAL, _STILLS = 3, 2
"""Clips of each disturbance: over real sequences, and over stills."""
_STILL_FPS = 10.0
_RARE_FPS = 2.0
_BOOTSTRAP_S = 1.0
"""Motion in the first second cannot be known: the background is not learned yet."""
_SENSOR = 1.5

HEAD = """\
| disturbance | frame P / R / F1 | events found | latency 90 % | false alarms | in stills | stills flagged |
| --- | --- | --- | --- | --- | --- | --- |"""

Frames = list[Luma]
Random = np.random.Generator
Disturbance = Callable[[Frames, Random, float], Frames]


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames with a label for each (see core.scoring), and their frame rate."""

    name: str
    disturbance: str
    still: bool
    frames: NDArray[np.uint8]
    labels: NDArray[np.int8]
    fps: float


def _luma(values: NDArray[np.floating]) -> Luma:
    return u8(np.clip(values + 0.5, 0, 255))


def _field(random: Random, shape: tuple[int, int], grain: float) -> NDArray[np.float32]:
    """Return a smooth random field, 0..1, float32; `grain` is the width of its hills in frame widths."""
    cells = (max(2, round(shape[0] / shape[1] / grain) + 1), max(2, round(1 / grain) + 1))
    values = random.random(cells, np.float32)
    hills = cv2.resize(values, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(hills, 0, 1), np.float32)


def _noisy(frames: Frames, random: Random, sigma: float) -> Frames:
    # A few planes of noise, each rolled: drawing one for every frame would cost more than all else.
    planes = [random.normal(0, sigma, frames[0].shape).astype(np.float32) for _ in range(8)]
    noisy = []
    for index, frame in enumerate(frames):
        by = (int(random.integers(frame.shape[0])), int(random.integers(frame.shape[1])))
        noisy.append(_luma(frame + np.roll(planes[index % 8], by, (0, 1))))
    return noisy


def _while(
    frames: Frames, random: Random, change: Callable[[Luma], NDArray[np.floating]], *, ramp: int = 0
) -> Frames:
    """Apply `change` from about 1/3 to about 2/3 of the frames, blended in over `ramp` frames."""
    begin, end = int(random.integers(45, 65)), int(random.integers(95, 115))
    changed = []
    for index, frame in enumerate(frames):
        share = float(np.clip((min(index - begin, end - index) + 1) / (ramp + 1), 0, 1))
        changed.append(_luma(share * change(frame) + (1 - share) * frame) if share else frame)
    return changed


def plain(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return frames


def light_step(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    gain, offset = random.choice([0.35, 0.6, 1.5, 1.9]), random.uniform(-15, 15)
    return _while(frames, random, lambda frame: frame * gain + offset, ramp=int(random.integers(0, 3)))


def gamma_step(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    gamma = random.choice([0.5, 0.7, 1.5, 2.0])
    return _while(frames, random, lambda frame: 255 * (frame / 255.0) ** gamma)


def lamp(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    """Switch on a lamp, or the lights of a car outside the frame, in a part of it."""
    height, width = frames[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    reach = random.uniform(0.15, 0.5) * width
    far = (x - random.uniform(0, width)) ** 2 + (y - random.uniform(0, height)) ** 2
    glow = 1 + random.uniform(0.3, 1.2) * np.exp(-far / (2 * reach**2))
    return _while(frames, random, lambda frame: frame * glow)


def switch(frames: Frames, random: Random, fps: float) -> Frames:
    """Switch the light off, of which the exposure gives a part back, and on again."""
    dim, begin, end = random.uniform(0.3, 0.55), int(random.integers(45, 65)), int(random.integers(95, 115))
    back = dim * (1 + 0.5 * (1 - np.exp(-np.arange(len(frames)) / fps / 1.2)))
    return [
        _luma(frame * back[index - begin]) if begin <= index < end else frame
        for index, frame in enumerate(frames)
    ]


def sun(frames: Frames, random: Random, fps: float) -> Frames:
    """Let the sun come out for a while: sharp patches of light that fade in and out."""
    height, width = frames[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    lit = np.zeros((height, width), np.bool_)
    for _ in range(int(random.integers(1, 4))):
        slant = random.uniform(-0.5, 0.5)
        middle = (random.uniform(0.1, 0.9) * width, random.uniform(0.4, 0.9) * height)
        across = np.abs(x - middle[0] - slant * (y - middle[1]))
        wide, high = random.uniform(0.02, 0.15) * width, random.uniform(0.08, 0.25) * height
        lit |= (across < wide) & (np.abs(y - middle[1]) < high)
    glow = 1 + random.uniform(0.25, 0.8) * cv2.GaussianBlur(lit.astype(np.float32), (0, 0), 1.2)
    ramp = max(1, round(fps * random.uniform(0.5, 2.0)))
    return _while(frames, random, lambda frame: frame * glow, ramp=min(ramp, 20))


def ir_cut(frames: Frames, random: Random, fps: float) -> Frames:
    """Switch to infrared: other relative brightnesses, less contrast, more noise."""
    field = 0.6 + 0.8 * _field(random, frames[0].shape, 0.08)
    night = _noisy(frames, random, 4.0)
    begin, end = int(random.integers(45, 65)), int(random.integers(95, 115))
    flash = int(random.integers(0, 3))
    switched = []
    for index, frame in enumerate(frames):
        if not begin <= index < end:
            switched.append(frame)
        elif index < begin + flash:
            switched.append(_luma(np.minimum(frame * 2.5 + 60.0, 255)))
        else:
            switched.append(_luma(40 + 0.6 * field * night[index]))
    return exposure(switched, random, fps) if random.random() < 0.3 else switched


def clouds(frames: Frames, random: Random, fps: float) -> Frames:
    """Move soft-edged cloud shadows across, of random size, speed and strength."""
    height, width = frames[0].shape
    hard = random.uniform(4, 10)
    wide = _field(random, (height, 4 * width), random.choice([0.06, 0.12, 0.25]))
    shade = 1 - random.uniform(0.2, 0.6) / (1 + np.exp(-hard * 2 * (wide - 0.5)))
    speed = random.uniform(0.02, 0.3) * width / fps
    left = (np.arange(len(frames)) * speed).astype(int) % (3 * width)
    return [_luma(frame * shade[:, at : at + width]) for frame, at in zip(frames, left.tolist(), strict=True)]


def exposure(frames: Frames, random: Random, fps: float) -> Frames:
    """Let the automatic exposure hunt."""
    depth, period = random.uniform(0.1, 0.35), random.uniform(1.0, 5.0)
    gains = 1 + depth * np.sin(2 * np.pi * np.arange(len(frames)) / fps / period)
    return [_luma(frame * gain) for frame, gain in zip(frames, gains.tolist(), strict=True)]


def rain(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return _falling(frames, random, length=random.uniform(0.03, 0.09), wide=1)


def snow(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return _falling(frames, random, length=0.004, wide=int(random.integers(2, 4)))


def _falling(frames: Frames, random: Random, *, length: float, wide: int) -> Frames:
    height, width = frames[0].shape
    drops, slant = int(random.integers(40, 250)), random.uniform(-0.3, 0.3)
    bright = random.uniform(20, 60)
    wet = []
    for frame in frames:
        streaks = np.zeros(frame.shape, np.uint8)
        for x, y in random.uniform((0, 0), (width, height), (drops, 2)):
            tip = (round(x + slant * length * height), round(y + length * height))
            cv2.line(streaks, (round(x), round(y)), tip, 255, wide)
        soft = cv2.GaussianBlur(streaks, (3, 3), 0).astype(np.float32) / 255.0
        wet.append(_luma(frame + soft * bright))
    return wet


def noise(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return _noisy(frames, random, random.choice([4.0, 8.0, 12.0]))


def night(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    """Dim the scene and amplify it as a sensor does at night: more noise where it is darker."""
    dim = random.uniform(0.15, 0.35)
    return _noisy([_luma(frame * dim) for frame in frames], random, random.uniform(3.0, 7.0))


def street_lamp(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    """Light a night scene from one side only, and amplify it: the far side is almost noise."""
    height, width = frames[0].shape
    x = np.linspace(0, 1, width, dtype=np.float32)[None, :: int(random.choice([-1, 1]))]
    light = (
        random.uniform(0.4, 0.7) * np.exp(-random.uniform(1.5, 3.0) * x) * np.ones((height, 1), np.float32)
    )
    dim = [frame * light + 6.0 for frame in frames]
    grain = 1.0 + random.uniform(1.0, 2.5) * (1.0 - light / light.max())
    noise = [random.normal(0, 2.5, (height, width)).astype(np.float32) * grain for _ in range(16)]
    return [_luma(frame + noise[int(random.integers(16))]) for frame in dim]


def flicker(frames: Frames, random: Random, fps: float) -> Frames:
    """Flicker with the mains: bright and dark bands that roll, or stand almost still."""
    rows = np.linspace(0, 2 * np.pi * random.uniform(0.3, 3.0), frames[0].shape[0], dtype=np.float32)[:, None]
    depth, rate = random.uniform(0.04, 0.2), random.uniform(0.1, fps / 2)
    return [
        _luma(frame * (1 + depth * np.sin(rows + 2 * np.pi * rate * index / fps)))
        for index, frame in enumerate(frames)
    ]


def rows(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    """Add a row offset that varies by frame, and a fixed column offset: a cheap sensor."""
    height, width = frames[0].shape
    columns = random.normal(0, random.uniform(1, 4), (1, width))
    sigma = random.uniform(1.5, 5.0)
    return [_luma(frame + columns + random.normal(0, sigma, (height, 1))) for frame in frames]


def shake(frames: Frames, random: Random, fps: float) -> Frames:
    """Shake the camera: a mast that swings, or knocks."""
    reach, swings = random.choice([0.5, 1.5, 3.0, 6.0]), random.random() < 0.5
    rate = random.uniform(0.5, 3.0)
    shaken = []
    for index, frame in enumerate(frames):
        if swings:
            phase = 2 * np.pi * rate * index / fps
            x, y = reach * np.sin(phase), 0.4 * reach * np.sin(1.7 * phase + 1)
        else:
            x, y = random.uniform(-reach, reach, 2)
        matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
        shaken.append(u8(cv2.warpAffine(frame, matrix, frame.shape[::-1], borderMode=cv2.BORDER_REFLECT)))
    return shaken


def wind(frames: Frames, random: Random, fps: float) -> Frames:
    """Sway the upper part of the frame, or one side, like a tree's crown: in gusts, each bough separately."""
    height, width = frames[0].shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    crown = np.clip(2.5 * _field(random, (height, width), 0.4) - 0.8, 0, 1)
    crown *= np.clip(1.6 - 1.6 * y / height, 0, 1)
    reach = random.uniform(1.0, 5.0) * width / 320
    boughs = [(_field(random, (height, width), 0.1) - 0.5, random.uniform(0.4, 2.5)) for _ in range(4)]
    swayed = []
    for index, frame in enumerate(frames):
        at = index / fps
        gust = 0.5 + 0.5 * np.sin(2 * np.pi * at / 6.0 + 0.5 * np.sin(at))
        sway = sum(bough * np.sin(2 * np.pi * rate * at + 9 * bough) for bough, rate in boughs)
        by = (3.0 * reach * gust * crown * sway).astype(np.float32)
        swayed.append(u8(cv2.remap(frame, x + by, y + 0.4 * by, cv2.INTER_LINEAR, None, cv2.BORDER_REFLECT)))
    return swayed


def h264(frames: Frames, random: Random, fps: float) -> Frames:
    """Encode at a low bit rate, with a keyframe every few seconds."""
    crf, seconds = int(random.integers(30, 43)), float(random.uniform(1, 4))
    height, width = (side // 2 * 2 for side in frames[0].shape)
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "g": str(max(1, round(seconds * fps))), "preset": "veryfast"}
        grey = np.full((height // 2, width), 128, np.uint8)
        for index, frame in enumerate(frames):
            planes = np.ascontiguousarray(np.vstack([frame[:height, :width], grey]))
            decoded = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            decoded.pts, decoded.time_base = index, 1 / rate
            container.mux(stream.encode(decoded))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as encoded:
        return [u8(frame.to_ndarray(format="gray")) for frame in encoded.decode(video=0)]


def half_size(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return [u8(cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)) for frame in frames]


def mirrored(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    return [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]


def rare(frames: Frames, random: Random, fps: float) -> Frames:  # noqa: ARG001
    """Leave the frames as they are: `clips` shows them at 2 fps."""
    return frames


DISTURBANCES: dict[str, Disturbance] = {
    each.__name__: each
    for each in (
        plain,
        light_step,
        gamma_step,
        lamp,
        switch,
        sun,
        ir_cut,
        clouds,
        exposure,
        rain,
        snow,
        noise,
        night,
        street_lamp,
        flicker,
        rows,
        shake,
        wind,
        h264,
        half_size,
        mirrored,
        rare,
    )
}


def _window(labels: NDArray[np.int8]) -> int:
    """Return the start of the window that maximizes `min(moving, empty)` frames."""
    if labels.size <= FRAMES:
        return 0
    starts = range(0, labels.size - FRAMES + 1, 10)

    def both(start: int) -> tuple[int, int]:
        window = labels[start : start + FRAMES]
        moving, empty = int(np.sum(window > EMPTY)), int(np.sum(window == EMPTY))
        return min(moving, empty), moving + empty

    return max(starts, key=both)


def clips(folders: Sequence[Path], seed: int, wanted: Sequence[str]) -> Iterator[Clip]:
    """Yield the stress set of these sequences."""
    scenes: list[tuple[str, Frames, NDArray[np.int8], float]] = []
    stills: list[tuple[str, Luma]] = []
    for folder in folders:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["synthetic"]:
            continue
        frames = list(frames_of(folder, meta))
        median = np.median(np.stack(frames[:: max(1, len(frames) // 30)]), axis=0).astype(np.uint8)
        stills.append((folder.name, median))
        labels = labels_of(folder, meta)
        if meta["kind"] in ("pixel", "event"):
            begin = _window(labels)
            span = slice(begin, begin + FRAMES)
            scenes.append((folder.name, frames[span], labels[span], meta["fps"]))
    for name in wanted:
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        disturb = DISTURBANCES[name]
        for which in random.permutation(len(scenes))[:_REAL].tolist():
            scene, frames, labels, fps = scenes[which]
            step = max(1, round(fps / 5)) if random.random() < 0.3 else 1  # 5 fps, as in the product
            if name == "rare":
                step = max(1, round(fps / _RARE_FPS))
            frames, labels, fps = frames[::step], labels[::step].copy(), fps / step
            labels[: round(_BOOTSTRAP_S * fps)] = UNSCORED
            made = np.stack(disturb(frames, random, fps))
            yield Clip(f"{name}/{scene}@{fps:.0f}", name, False, made, labels, fps)
        for which in random.permutation(len(stills))[:_STILLS].tolist():
            scene, still = stills[which]
            fps = _RARE_FPS if name == "rare" else float(random.choice([5.0, _STILL_FPS]))
            frames = disturb([still] * FRAMES, random, fps)
            made = np.stack(_noisy(frames, random, _SENSOR))
            yield Clip(
                f"{name}/still {scene}@{fps:.0f}", name, True, made, np.full(FRAMES, EMPTY, np.int8), fps
            )


def score(clip: Clip, settings: DetectorSettings) -> Score:
    """Run the detector over a clip and score its verdicts."""
    detector = Detector(settings)
    motion = [detector.update(frame, index / clip.fps).motion for index, frame in enumerate(clip.frames)]
    return score_frames(np.array(motion), clip.labels[: len(motion)], clip.fps)


def stored(source: Iterator[Clip], cache: Path) -> Iterator[Clip]:
    """Cache clips as files, so that the next run need not make them."""
    cache.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(source):
        np.savez(
            cache / f"{number:03}.npz",
            frames=clip.frames,
            labels=clip.labels,
            meta=json.dumps([clip.name, clip.disturbance, clip.still, clip.fps]),
        )
        yield clip


def loaded(cache: Path) -> Iterator[Clip]:
    for path in sorted(cache.glob("*.npz")):
        with np.load(path) as kept:
            name, disturbance, still, fps = json.loads(str(kept["meta"]))
            yield Clip(name, disturbance, still, kept["frames"], kept["labels"], fps)


def _line(name: str, scores: Sequence[tuple[Clip, Score]]) -> str:
    real = total(score for clip, score in scores if not clip.still)
    still = total(score for clip, score in scores if clip.still)
    f1 = "–" if real.f1 is None else f"{real.precision or 0:.3f} / {real.recall or 0:.3f} / {real.f1:.3f}"
    late = f"{np.percentile(real.latency, 90):.0f}" if real.latency else "–"
    return (
        f"| {name} | {f1} | {real.found}/{real.events} | {late} | {real.false_alarms} "
        f"| {still.false_alarms} | {100 * still.alarm_frames / max(1, still.empty_frames):.1f} % |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Make the set, run the detector over it, and print a line for each disturbance."""
    parser = argparse.ArgumentParser(description="Scores the detector under made disturbances.")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="keep the made clips there, and read them")
    parser.add_argument("--only", default=",".join(DISTURBANCES), help="disturbances, with commas")
    parser.add_argument(
        "--clips", action="store_true", help="also name the clips in which something is wrong"
    )
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in DISTURBANCES]:
        print(f"{', '.join(unknown)}: not known, expected of {', '.join(DISTURBANCES)}", file=sys.stderr)
        return 2
    folders = sorted(found.parent for found in options.data.rglob("meta.json"))
    if not folders:
        print(f"{options.data}: no footage there; name it with --data", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    cache = options.cache and options.cache / f"{options.seed}-{zlib.crc32(options.only.encode()):08x}"
    if cache and cache.exists():
        source = loaded(cache)
    else:
        source = clips(folders, options.seed, wanted)
        source = stored(source, cache) if cache else source
    settings = DetectorSettings(min_area=MIN_AREA)
    scores: dict[str, list[tuple[Clip, Score]]] = {}
    for clip in source:
        result = score(clip, settings)
        scores.setdefault(clip.disturbance, []).append((clip, result))
        if options.clips and (result.fp or result.fn or result.missed):
            print(
                f"{clip.name}: {result.fp} false, {result.fn} missed frames of {len(clip.labels)}, "
                f"{result.missed} events missed, {result.false_alarms} alarms",
                file=sys.stderr,
            )
    print(HEAD)
    for name, group in scores.items():
        print(_line(name, group))
    print(_line("**all**", [each for group in scores.values() for each in group]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
