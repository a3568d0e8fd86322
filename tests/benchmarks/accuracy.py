"""How right the detector is, on footage with labels, beside OpenCV's methods.

    python -m tests.benchmarks.accuracy [--data PATH] [--only A,B] [--baselines all] [--sheets DIR]

PATH holds `evaluate.py`, `baselines.py` and folders of sequences with labels; it is not part of this
repository, because some of the footage may not be passed on. Scoring is `evaluate.py`'s own: nothing here
knows a sequence by name. Ours runs as in the product but for the minimum area, which is the one that the
scoring itself counts as motion. Cost is process CPU time on one thread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from async_motion.core.detector import Detector, DetectorSettings
from async_motion.core.model import Detection, Luma
from async_motion.core.picture import Plane

DEFAULT_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MIN_AREA = 0.001
"""The share of the picture from which evaluate.py calls a frame motion."""
BASELINES = "framediff,runavg,mog2,mog2_post,knn,knn_post"

Detect = Callable[[Luma, float], tuple[bool, float, Plane]]


def ours(width: int, height: int, fps: float, roi: object) -> Detect:  # noqa: ARG001
    """Make our detector as evaluate.py wants it: (grey frame, seconds) -> (motion, score, mask)."""
    detector = Detector(DetectorSettings(min_area=MIN_AREA))

    def detect(frame: Luma, seconds: float) -> tuple[bool, float, Plane]:
        detection = detector.update(frame, seconds)
        return detection.motion, detection.score, detector.mask

    return detect


ours.gray = True  # type: ignore[attr-defined]


def cost_ms(width: int, height: int, *, frames: int = 120, repeats: int = 3) -> float:
    """Return the least mean CPU time, in ms, for a frame of a noisy scene through which a box moves."""
    random = np.random.default_rng(1)
    small = random.integers(40, 200, (height // 24, width // 24), np.uint8)
    still = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = [random.normal(0, 3, (height, width)).astype(np.int8) for _ in range(4)]
    pictures = []
    for index in range(frames):
        picture = np.clip(still.astype(np.int16) + noise[index % 4], 0, 255).astype(np.uint8)
        if index % 60 >= 30:
            left = (index % 60 - 30) * width // 40
            picture[height // 3 : 2 * height // 3, left : left + width // 12] = 20
        pictures.append(picture)
    best = float("inf")
    for _ in range(repeats):
        detector = Detector(DetectorSettings())
        for index, picture in enumerate(pictures[:10]):
            detector.update(picture, index / 25)
        began = time.process_time()
        for index, picture in enumerate(pictures, start=10):
            detector.update(picture, index / 25)
        best = min(best, 1000 * (time.process_time() - began) / frames)
    return best


def frames_of(folder: Path, meta: dict[str, Any]) -> Iterator[Luma]:
    """Yield a sequence's frames as luma, cropped to the zone that it is labelled for."""
    capture = cv2.VideoCapture(str(folder / "input.mkv"))
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            if "roi_rect" in meta:
                x, y, width, height = meta["roi_rect"]
                frame = frame[y : y + height, x : x + width]
            yield np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2GRAY), np.uint8)
    finally:
        capture.release()


def write_sheet(folder: Path, target: Path, *, rows: int = 8) -> None:
    """Write one picture of a sequence: frame with boxes, truth, mask and reason, at `rows` moments."""
    meta = json.loads((folder / "meta.json").read_text())
    truth, first = None, 0
    if (folder / "gt.npz").exists():
        with np.load(folder / "gt.npz") as labels:
            truth, first = labels["labels"], int(labels["first"])
    begin, end = meta.get("eval_span", [0, meta["frames"] - 1])
    moments = set(np.linspace(begin, min(end, meta["frames"] - 1), rows).astype(int).tolist())
    detector = Detector(DetectorSettings(min_area=MIN_AREA))
    strips = []
    for index, frame in enumerate(frames_of(folder, meta)):
        detection = detector.update(frame, index / meta["fps"])
        if index in moments:
            inside = truth is not None and 0 <= index - first < len(truth)
            label = truth[index - first] if truth is not None and inside else np.zeros_like(frame)
            strips.append(_strip(frame, label, detector.mask, detection, index))
    cv2.imwrite(str(target), np.vstack(strips))


def _strip(frame: Luma, label: Plane, mask: Plane, detection: Detection, index: int) -> Plane:
    size = (320, 320 * frame.shape[0] // frame.shape[1])
    panes = [cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_GRAY2BGR)]
    for plane in (label, mask):
        resized = cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST)
        panes.append(cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR))
    for box in detection.boxes:
        corner = (round(box.x * size[0]), round(box.y * size[1]))
        opposite = (round((box.x + box.width) * size[0]), round((box.y + box.height) * size[1]))
        cv2.rectangle(panes[0], corner, opposite, (0, 255, 0), 1)
    kind = f" {detection.scene_change}" if detection.scene_change else ""
    cv2.putText(panes[0], f"{index} {detection.reason}{kind}", (4, 14), 0, 0.42, (0, 255, 255), 1)
    return np.asarray(np.hstack(panes), np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Run, print the tables, and say how long a frame takes."""
    parser = argparse.ArgumentParser(description="Scores the detector on labelled footage.")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--only", help="names of sequences, with commas")
    parser.add_argument("--baselines", default="", help=f"with commas, of {BASELINES}; or all")
    parser.add_argument("--sheets", type=Path, help="write a contact sheet of each sequence there")
    options = parser.parse_args(arguments)
    if not (options.data / "evaluate.py").exists():
        print(f"{options.data}: no evaluate.py there; name the footage with --data", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    sys.path.insert(0, str(options.data))
    evaluate = importlib.import_module("evaluate")
    wanted = set(options.only.split(",")) if options.only else None
    folders = [Path(found) for found in evaluate.sequences(str(options.data))]
    folders = [folder for folder in folders if wanted is None or folder.name in wanted]
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            write_sheet(folder, options.sheets / f"{folder.name}.png")
        return 0
    names = BASELINES if options.baselines == "all" else options.baselines
    detectors = ["tests.benchmarks.accuracy:ours"]
    detectors += [f"baselines:{name}" for name in names.split(",") if name]
    with tempfile.TemporaryDirectory() as results:
        for detector in detectors:
            for folder in folders:
                evaluate.run_sequence(str(folder), detector, results)
        evaluate.report(results)
        evaluate.perseq(results, None, None)
    print(f"\nCPU for a frame, reduction included: {cost_ms(1920, 1080):.2f} ms at 1080p, ", end="")
    print(f"{cost_ms(1280, 720):.2f} ms at 720p")
    return 0


if __name__ == "__main__":
    sys.exit(main())
