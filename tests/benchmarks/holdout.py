"""Accuracy of parameters on cameras that were not used to choose them.

    python -m tests.benchmarks.holdout [--data PATH …] [--fps 5] [--only A,B]

Runs the detector with a small star of settings around the defaults. Leave-one-out over cameras: the settings
that score best on all other cameras are scored on the one left out. The sum of these scores is the held-out
figure. Where it is close to the defaults' figure, the choice does not depend on single cameras. It does not
validate the design itself, which was made with all of them in view.

Prints, for each setting and for what was held out: frames with the interval of F1 (bootstrap over cameras),
events, latency, false alarms and alarms an hour, standing; the defaults and the held-out figures by category;
how many choices were made. A change is taken only if its lines here are better.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Luma
from async_motion.tune.clips import reduced
from async_motion.tune.scoring import Labels, Range, Score, score_frames, total
from tests.benchmarks.accuracy import (
    DEFAULT_DATA,
    MIN_AREA,
    by_category,
    cameras_of,
    frames_of,
    interval,
    labels_of,
    standing_of,
)

DEFAULTS = DetectorSettings(min_area=MIN_AREA)
STAR = {
    "defaults": DEFAULTS,
    "threshold 9": DetectorSettings(min_area=MIN_AREA, threshold=9.0),
    "threshold 16": DetectorSettings(min_area=MIN_AREA, threshold=16.0),
    "strong_share 35 %": DetectorSettings(min_area=MIN_AREA, strong_share=0.35),
    "strong_share 75 %": DetectorSettings(min_area=MIN_AREA, strong_share=0.75),
    "noise_factor 1.5": DetectorSettings(min_area=MIN_AREA, noise_factor=1.5),
    "unrest_factor 4": DetectorSettings(min_area=MIN_AREA, unrest_factor=4.0),
    "unrest_factor 24": DetectorSettings(min_area=MIN_AREA, unrest_factor=24.0),
}
HEAD = """\
| settings | frame P / R / F1 (95 %) | events found | latency, s, median / 90 % | false alarms | an hour \
| empty frames flagged | standing seen, spans kept |
| --- | --- | --- | --- | --- | --- | --- | --- |"""

Meta = Mapping[str, Any]


def goodness(scores: Iterable[Score]) -> float:
    """Return frame F1 less 0.01 for each missed event and each false alarm."""
    whole = total(scores)
    return (whole.f1 or 0.0) - 0.01 * (whole.missed + whole.false_alarms)


def line_of(name: str, by_camera: Mapping[str, Sequence[Score]]) -> str:
    """Return a line of the table."""
    whole = total(score for scores in by_camera.values() for score in scores)
    low, high = interval(by_camera)
    late = "–"
    if whole.latency_s:
        late = f"{whole.latency_quantile_s(0.5):.2f} / {whole.latency_quantile_s(0.9):.2f}"
    standing = "–"
    if whole.spans:
        standing = f"{100 * (whole.standing_share or 0):.0f} %, {whole.spans_kept}/{whole.spans}"
    return (
        f"| {name} | {whole.precision or 0:.3f} / {whole.recall or 0:.3f} / {whole.f1 or 0:.3f} "
        f"({low:.3f}–{high:.3f}) | {whole.found}/{whole.events} | {late} | {whole.false_alarms} "
        f"| {whole.alarms_an_hour or 0:.0f} | {100 * whole.alarm_frames / max(1, whole.empty_frames):.1f} % "
        f"| {standing} |"
    )


def score_with(
    settings: DetectorSettings, frames: Sequence[Luma], labels: Labels, standing: Sequence[Range], fps: float
) -> Score:
    """Score one setting on the judged frames of a sequence."""
    detector = Detector(settings)
    motion = [detector.update(frame, index / fps).motion for index, frame in enumerate(frames)]
    return score_frames(np.array(motion), labels[: len(motion)], fps, standing=standing)


def left_out(
    scores: Mapping[str, Mapping[str, Sequence[Score]]],
) -> tuple[dict[str, Sequence[Score]], dict[str, list[str]]]:
    """Return each camera's scores with the setting that is best on all others, and its cameras by setting.

    `scores` are by setting and camera. Settings that are equally good: the first.
    """
    held_out: dict[str, Sequence[Score]] = {}
    chosen: dict[str, list[str]] = {}
    for camera in next(iter(scores.values())):
        best = max(
            scores,
            key=lambda name: goodness(
                score for other, each in scores[name].items() if other != camera for score in each
            ),
        )
        held_out[camera] = scores[best][camera]
        chosen.setdefault(best, []).append(camera)
    return held_out, chosen


def main(arguments: list[str] | None = None) -> int:
    """Score every setting on every sequence once, then leave cameras out in turn."""
    parser = argparse.ArgumentParser(description="Leaves cameras out in turn.")
    parser.add_argument("--data", type=Path, nargs="+", default=[DEFAULT_DATA], help="folders of footage")
    parser.add_argument("--fps", type=float, help="judge about this many frames a second; without: every one")
    parser.add_argument("--only", help="names of sequences, with commas")
    options = parser.parse_args(arguments)
    only = set(options.only.split(",")) if options.only else None
    found = sorted(path.parent for data in options.data for path in data.rglob("meta.json"))
    folders = [folder for folder in found if only is None or folder.name in only]
    if not folders:
        print(f"{', '.join(map(str, options.data))}: no footage there; name it with --data", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    metas = {folder: json.loads((folder / "meta.json").read_text()) for folder in folders}
    camera_of = cameras_of(metas.values())
    scores: dict[str, dict[str, list[Score]]] = {name: {} for name in STAR}
    sequences: dict[str, list[Meta]] = {}
    for folder, meta in metas.items():
        step = max(1, round(meta["fps"] / options.fps)) if options.fps else 1
        # Reduced as by the detector: the verdicts are the same.
        frames = [reduced(frame) for index, frame in enumerate(frames_of(folder, meta)) if index % step == 0]
        labels = labels_of(folder, meta)[::step]
        standing = [(-(-first // step), last // step) for first, last in standing_of(meta)]
        camera = camera_of[meta["name"]]
        sequences.setdefault(camera, []).append(meta)
        for name, settings in STAR.items():
            score = score_with(settings, frames, labels, standing, meta["fps"] / step)
            scores[name].setdefault(camera, []).append(score)
        print(f"{folder.name}: {len(frames)} frames", file=sys.stderr, flush=True)
    held_out, chosen = left_out(scores)
    print(HEAD)
    for name, by_camera in scores.items():
        print(line_of(name, by_camera))
    print(line_of("**held out**", held_out))

    def with_metas(by_camera: Mapping[str, Sequence[Score]]) -> list[tuple[Meta, Score]]:
        return [
            pair for camera, each in by_camera.items() for pair in zip(sequences[camera], each, strict=True)
        ]

    print("\nFrame F1, events found and false alarms, by category:\n")
    print(
        *by_category({"defaults": with_metas(scores["defaults"]), "held out": with_metas(held_out)}), sep="\n"
    )
    print(
        f"\n{len(held_out)} choices of one of {len(STAR)} settings, each on all cameras but one. "
        "Chosen, by how many:"
    )
    for name, cameras in chosen.items():
        print(f"- {name}: {len(cameras)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
