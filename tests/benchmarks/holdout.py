"""Accuracy of parameters on cameras that were not used to choose them.

    python -m tests.benchmarks.holdout [--data PATH]

Runs the detector with a small star of settings around the defaults. Leave-one-out over cameras: the settings
that score best on all other cameras are scored on the one left out. The sum of these scores is the held-out
figure. Where it is close to the defaults' figure, the choice does not depend on single cameras. It does not
validate the design itself, which was made with all of them in view.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.tune.scoring import Score, score_frames, total
from tests.benchmarks.accuracy import (
    DEFAULT_DATA,
    MIN_AREA,
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


def goodness(scores: Sequence[Score]) -> float:
    """Return frame F1 less 0.01 for each missed event and each false alarm."""
    whole = total(scores)
    return (whole.f1 or 0.0) - 0.01 * (whole.missed + whole.false_alarms)


def line_of(name: str, by_camera: Mapping[str, Sequence[Score]]) -> str:
    """Return a line of the table."""
    whole = total(score for scores in by_camera.values() for score in scores)
    low, high = interval(by_camera)
    flagged = 100 * whole.alarm_frames / max(1, whole.empty_frames)
    return (
        f"| {name} | {whole.precision or 0:.3f} / {whole.recall or 0:.3f} / {whole.f1 or 0:.3f} "
        f"({low:.3f}–{high:.3f}) "
        f"| {whole.found}/{whole.events} | {whole.false_alarms} | {flagged:.1f} % |"
    )


def main(arguments: list[str] | None = None) -> int:
    """Score every setting on every sequence once, then leave cameras out in turn."""
    parser = argparse.ArgumentParser(description="Leaves cameras out in turn.")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    options = parser.parse_args(arguments)
    folders = sorted(found.parent for found in options.data.rglob("meta.json"))
    if not folders:
        print(f"{options.data}: no footage there; name it with --data", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    scores: dict[str, dict[str, list[Score]]] = {name: {} for name in STAR}  # setting, camera
    metas = {folder: json.loads((folder / "meta.json").read_text()) for folder in folders}
    camera_of = cameras_of(metas.values())
    for folder, meta in metas.items():
        labels, frames = labels_of(folder, meta), list(frames_of(folder, meta))
        for name, settings in STAR.items():
            detector = Detector(settings)
            motion = [
                detector.update(frame, index / meta["fps"]).motion for index, frame in enumerate(frames)
            ]
            result = score_frames(
                np.array(motion), labels[: len(motion)], meta["fps"], standing=standing_of(meta)
            )
            scores[name].setdefault(camera_of[meta["name"]], []).append(result)
    cameras = sorted(scores["defaults"])

    def of(name: str, without: str = "") -> list[Score]:
        return [each for camera in cameras if camera != without for each in scores[name][camera]]

    held_out: dict[str, list[Score]] = {}
    chosen: dict[str, list[str]] = {}
    for camera in cameras:
        best = max(STAR, key=lambda name: goodness(of(name, without=camera)))
        held_out[camera] = scores[best][camera]
        chosen.setdefault(best, []).append(camera)
    print("| settings | frame P / R / F1 (95 %) | events found | false alarms | empty frames flagged |")
    print("| --- | --- | --- | --- | --- |")
    for name in STAR:
        print(line_of(name, scores[name]))
    print(line_of("**held out**", held_out))
    for name, without in chosen.items():
        print(f"chosen for {len(without)} of {len(cameras)} cameras: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
