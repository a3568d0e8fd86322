"""Accuracy of the detector on labelled footage, beside OpenCV's methods.

    python -m tests.benchmarks.accuracy [--data PATH] [--only A,B] [--baselines all] [--sensitivities]
    python -m tests.benchmarks.accuracy --sheets DIR        one image of each sequence, for inspection
    python -m tests.benchmarks.accuracy --sheets DIR --worse-than knn_cleaned

PATH holds `evaluate.py` and folders of labelled sequences. It is not part of this repository, because some of
the footage may not be redistributed. `evaluate.py` runs the methods and scores pixels. Frames, events and
alarms are scored both by it and by the product (`core/scoring.py`, as `async-motion tune` does); the two must
agree. No sequence gets special treatment. Our detector runs as in the product, except for the minimum area:
it is the one that the scoring counts as motion. Cost is process CPU time on one thread. The interval beside
frame F1 is a bootstrap over cameras, since the errors on frames of one camera are correlated.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.working_image import Plane, u8
from async_motion.core.model import Detection, Image, Luma
from async_motion.core.options import Sensitivity
from async_motion.tune.intervals import f1_interval
from async_motion.tune.scoring import (
    EMPTY,
    MOVING,
    UNSCORED,
    Range,
    Score,
    event_labels,
    score_frames,
    total,
)
from tests.benchmarks.baselines import BASELINES
from tests.benchmarks.masks import MASK_MOVING, MASK_OUTSIDE, MASK_UNKNOWN, mask_labels

DEFAULT_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
_PANE = 260
_FPS, _KNOWN = 5.0, 40
"""The cost is measured at the product's frame rate, after a method has seen `_KNOWN` frames."""
MIN_AREA = 0.001
"""Share of the frame from which evaluate.py counts it as motion."""
HEAD = """| method | pixel F, real | frame P / R / F1 (95 %) | events found | latency, frames, median / 90 % \
| empty frames flagged | false alarms | false alarms/h, real / synthetic | standing seen, spans kept \
| CPU ms, 320x240 / 1080p |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""
Detect = Callable[[Luma, float], tuple[bool, float, Plane]]


def _ours(sensitivity: Sensitivity) -> Detect:
    detector = Detector(DetectorSettings(min_area=MIN_AREA, sensitivity=sensitivity))

    def detect(frame: Luma, seconds: float) -> tuple[bool, float, Plane]:
        detection = detector.update(frame, seconds)
        return detection.motion, detection.score, detector.mask

    return detect


def ours(width: int, height: int, fps: float, zone: object) -> Detect:  # noqa: ARG001
    """Return our detector in evaluate.py's form: (grey frame, seconds) -> (motion, score, mask)."""
    return _ours("medium")


def ours_low(width: int, height: int, fps: float, zone: object) -> Detect:  # noqa: ARG001
    return _ours("low")


def ours_high(width: int, height: int, fps: float, zone: object) -> Detect:  # noqa: ARG001
    return _ours("high")


for _factory in (ours, ours_low, ours_high):
    _factory.gray = True  # type: ignore[attr-defined]


def cost_ms(
    factory: Callable[..., Any], width: int, height: int, *, frames: int = 60, repeats: int = 3
) -> float:
    """Return the lowest mean CPU time per frame, in ms, for a noisy scene that a box crosses."""
    random = np.random.default_rng(1)
    small = random.integers(40, 200, (height // 24, width // 24), np.uint8)
    still = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = [random.normal(0, 3, (height, width)).astype(np.int8) for _ in range(4)]
    images = []
    for index in range(frames):
        image = np.clip(still.astype(np.int16) + noise[index % 4], 0, 255).astype(np.uint8)
        if index >= frames // 2:
            left = (index - frames // 2) * width // 40
            image[height // 3 : 2 * height // 3, left : left + width // 12] = 20
        grey = getattr(factory, "gray", False)
        images.append(image if grey else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    best = float("inf")
    for _ in range(repeats):
        detect = factory(width, height, _FPS, None)
        for index in range(_KNOWN):
            detect(images[index % (frames // 2)], index / _FPS)
        began = time.process_time()
        for index, image in enumerate(images, start=_KNOWN):
            detect(image, index / _FPS)
        best = min(best, 1000 * (time.process_time() - began) / frames)
    return best


def labels_of(folder: Path, meta: Mapping[str, Any]) -> NDArray[np.int8]:
    """Return the label of each frame of a sequence."""
    frames, span = meta["frames"], tuple(meta.get("eval_span", (0, meta["frames"] - 1)))
    if meta["kind"] == "pixel":
        with np.load(folder / "gt.npz") as truth:
            return mask_labels(
                truth["labels"],
                frames=frames,
                first=int(truth["first"]),
                span=span,
                empty=meta.get("empty", ()),
            )
    if meta["kind"] == "event":
        return event_labels(frames, meta["events"], unscored=meta.get("dontcare", ()), span=span)
    labels = np.full(frames, UNSCORED, np.int8)
    for first, last in meta.get("empty", ()):
        labels[first : last + 1] = EMPTY
    return labels


def score_of(folder: Path, result: Mapping[str, Any]) -> Score:
    """Score the verdicts recorded by evaluate.py as the product scores them."""
    meta = json.loads((folder / "meta.json").read_text())
    motion = np.zeros(meta["frames"], np.bool_)
    for first, last in result["det"]:
        motion[first : last + 1] = True
    return score_frames(motion, labels_of(folder, meta), meta["fps"], standing=standing_of(meta))


def standing_of(meta: Mapping[str, Any]) -> list[Range]:
    """Return the ranges of a sequence's scored frames in which a person stands still."""
    begin, end = meta.get("eval_span", (0, meta["frames"] - 1))
    return [(max(begin, first), min(end, last)) for first, last in meta.get("standing", ())]


def cameras_of(metas: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return each sequence's camera, by the sequence's name.

    It is `camera` in `meta.json` if given. Otherwise sequences cut from one file share a camera, and a
    sequence derived from another (named by its `source`) has that one's camera.
    """
    each = {meta["name"]: meta for meta in metas}
    cameras = {}
    for name, meta in each.items():
        source = str(meta.get("source", ""))
        words = source.replace("/", " ").replace(",", " ").replace(":", " ").split()
        origin = next((word for word in words if word in each and word != name), None)
        if origin is None:
            # Remarks in brackets describe the cut, not the source.
            file = source.partition("(")[0].strip()
            origin = file if file and not meta.get("synthetic") else name
        cameras[name] = str(meta.get("camera", origin))
    return {name: cameras.get(camera, camera) for name, camera in cameras.items()}


def interval(cameras: Mapping[str, Sequence[Score]]) -> tuple[float, float]:
    """Return the 95 % interval of frame F1: bootstrap, resampling cameras with replacement."""
    return f1_interval(total(scores) for scores in cameras.values()) or (0.0, 0.0)


def by_category(methods: Mapping[str, Sequence[tuple[Mapping[str, Any], Score]]]) -> list[str]:
    """Return the lines of a table by category: frame F1, events and false alarms of each method."""
    names = list(methods)
    lines = [f"| category | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    for category in sorted({result["category"] for scored in methods.values() for result, _ in scored}):
        cells = []
        for name in names:
            whole = total(score for result, score in methods[name] if result["category"] == category)
            f1 = "–" if whole.f1 is None else f"{whole.f1:.3f}"
            cells.append(f"{f1}, {whole.found}/{whole.events}, {whole.false_alarms}")
        lines.append(f"| {category} | {' | '.join(cells)} |")
    return lines


def differences(ours: Score, theirs: Mapping[str, Any]) -> list[str]:
    """Return the names of the figures that differ between our score and evaluate.py's."""
    mine = {
        **{key: getattr(ours, key) for key in ("tp", "fp", "fn", "tn", "events", "missed", "empty_s")},
        "latency": list(ours.latency),
        "false_alarms": ours.false_alarms,
        "fa_frames": ours.alarm_frames,
        "empty_frames": ours.empty_frames,
    }
    if "standing" in theirs:
        mine["standing"] = {
            "hit": ours.standing_seen,
            "frames": ours.standing_frames,
            "kept": ours.spans_kept,
            "spans": ours.spans,
        }
    return [key for key, value in mine.items() if value != theirs[key]]


def row(
    name: str,
    factory: Callable[..., Any],
    scored: Sequence[tuple[Mapping[str, Any], Score]],
    cameras: Mapping[str, str],
) -> str:
    """Return a method's line of the table; `cameras` maps sequence names to cameras."""
    pixel_f: dict[str, list[float]] = {}
    for result, _ in scored:
        if result.get("pix") and not result["synthetic"]:
            tp, fp, fn = result["pix"][:3]
            pixel_f.setdefault(result["category"], []).append(2 * tp / max(1, 2 * tp + fp + fn))
    pixel = f"{np.mean([np.mean(each) for each in pixel_f.values()]):.3f}" if pixel_f else "–"
    whole = total(score for _, score in scored)
    real, made = (
        total(score for result, score in scored if result["synthetic"] is synthetic)
        for synthetic in (False, True)
    )
    late = "–"
    if whole.latency:
        late = f"{np.median(whole.latency):.0f} / {np.percentile(whole.latency, 90):.0f}"

    def figure(value: float | None, digits: int = 3) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    grouped: dict[str, list[Score]] = {}
    for result, score in scored:
        grouped.setdefault(cameras[result["name"]], []).append(score)
    low, high = interval(grouped)
    standing = "–"
    if whole.spans:
        standing = f"{100 * (whole.standing_share or 0):.0f} %, {whole.spans_kept}/{whole.spans}"
    flagged = f"{100 * whole.alarm_frames / whole.empty_frames:.1f} %" if whole.empty_frames else "–"
    cells = [
        name,
        pixel,
        f"{figure(whole.precision)} / {figure(whole.recall)} / {figure(whole.f1)} ({low:.3f}–{high:.3f})",
        f"{whole.found}/{whole.events}",
        late,
        flagged,
        str(whole.false_alarms),
        f"{figure(real.alarms_an_hour, 0)} / {figure(made.alarms_an_hour, 0)}",
        standing,
        f"{cost_ms(factory, 320, 240):.2f} / {cost_ms(factory, 1920, 1080):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


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


def write_sheet(folder: Path, target: Path, *, moments: int = 8, lost: Collection[int] = ()) -> None:
    """Write one image of a sequence: frames with boxes, ground truth and masks, with verdicts and figures.

    Half of the moments are evenly spaced, the others have the largest errors, those in `lost` first. In the
    mask, green is correct, red is false, blue is missed, white is unknown.
    """
    meta = json.loads((folder / "meta.json").read_text())
    truth: dict[int, Plane] = {}
    if (folder / "gt.npz").exists():
        with np.load(folder / "gt.npz") as labels:
            truth = dict(enumerate(labels["labels"], start=int(labels["first"])))
    begin, end = meta.get("eval_span", [0, meta["frames"] - 1])
    end = min(end, meta["frames"] - 1)
    even = set(np.linspace(begin, end, moments // 2).astype(int).tolist())
    shown: dict[int, Image] = {}
    worst: dict[int, tuple[float, int, Image]] = {}  # the worst frame of each fortieth of the sequence
    detector = Detector(DetectorSettings(min_area=MIN_AREA))
    for index, frame in enumerate(frames_of(folder, meta)):
        detection = detector.update(frame, index / meta["fps"])
        size = (frame.shape[1], frame.shape[0])
        mask = u8(cv2.resize(detector.mask, size, interpolation=cv2.INTER_NEAREST))
        error = _error(meta, index, detection, mask, truth.get(index)) if begin <= index <= end else 0.0
        rank = error + 10.0 * (index in lost)
        part = 40 * index // meta["frames"]
        if index in even or (rank and rank > worst.get(part, (0.0,))[0]):
            known = {True: "motion", False: "nothing", None: "not known"}
            tile = _tile(
                index,
                frame,
                detection,
                mask,
                truth.get(index),
                label=known[_should_move(meta, index, truth.get(index))],
                error=error,
            )
            if index in even:
                shown[index] = tile
            else:
                worst[part] = (rank, index, tile)
    for _, index, tile in sorted(worst.values(), key=lambda found: found[0], reverse=True):
        if len(shown) < moments:
            shown[index] = tile
    tiles = [shown[index] for index in sorted(shown)]
    tiles += [np.zeros_like(tiles[0])] * (len(tiles) % 2)
    half = len(tiles) // 2
    cv2.imwrite(str(target), np.hstack([np.vstack(tiles[:half]), np.vstack(tiles[half:])]))


def worse(ours: Score, theirs: Score) -> list[str]:
    """Return what our score is worse in, with both figures; empty if in nothing."""
    return [
        f"{what} {mine} ({other})"
        for what, mine, other in (
            ("frames missed", ours.fn, theirs.fn),
            ("frames falsely flagged", ours.fp, theirs.fp),
            ("events missed", ours.missed, theirs.missed),
            ("false alarms", ours.false_alarms, theirs.false_alarms),
        )
        if mine > other
    ]


def lost_frames(ours: Mapping[str, Any], theirs: Mapping[str, Any], labels: NDArray[np.int8]) -> set[int]:
    """Return the scored frames on which the results of evaluate.py are wrong for us and right for them."""
    verdicts = np.zeros((2, len(labels)), np.bool_)
    for verdict, result in zip(verdicts, (ours, theirs), strict=True):
        for first, last in result["det"]:
            verdict[first : last + 1] = True
    moves = labels == MOVING
    lost = (labels != UNSCORED) & (verdicts[0] != moves) & (verdicts[1] == moves)
    return set(np.flatnonzero(lost).tolist())


def write_sheets_of_worse(
    evaluate: Any, method: str, folders: Sequence[Path], results: Path, sheets: Path
) -> None:
    """Write a sheet of each sequence in which ours is worse than `method`; print in what."""
    print(f"| sequence | category | worse than {method} in: ours (theirs) |\n| --- | --- | --- |")
    for folder in folders:
        mine, theirs = (
            result_of(evaluate, full, folder, results)
            for full in ("tests.benchmarks.accuracy:ours", f"tests.benchmarks.baselines:{method}")
        )
        what = worse(score_of(folder, mine), score_of(folder, theirs))
        if what:
            print(f"| {folder.name} | {mine['category']} | {', '.join(what)} |", flush=True)
            labels = labels_of(folder, json.loads((folder / "meta.json").read_text()))
            write_sheet(folder, sheets / f"{folder.name}.png", lost=lost_frames(mine, theirs, labels))


def result_of(evaluate: Any, method: str, folder: Path, results: Path) -> Mapping[str, Any]:
    """Return evaluate.py's result of a method on a sequence, from `results` if it is there already."""
    half = json.loads((folder / "meta.json").read_text())["half"]
    kept = results / f"{method.partition(':')[2]}__{half}__{folder.name}.json"
    if not kept.exists():
        evaluate.run_sequence(str(folder), method, str(results))
    result: Mapping[str, Any] = json.loads(kept.read_text())
    return result


def _should_move(meta: dict[str, Any], index: int, truth: Plane | None) -> bool | None:
    """Return whether a frame is labelled as motion; None if unknown."""
    if truth is not None:
        return bool(np.mean(truth == MASK_MOVING) >= MIN_AREA)

    def within(what: str) -> bool:
        return any(first <= index <= last for first, last in meta.get(what, ()))

    if meta["kind"] not in ("event", "empty") or within("dontcare"):
        return None
    return meta["kind"] == "event" and within("events")


def _error(meta: dict[str, Any], index: int, detection: Detection, mask: Plane, truth: Plane | None) -> float:
    """Return the error of a frame: 1 for a wrong verdict, plus the share of pixels that are wrong."""
    should_move = _should_move(meta, index, truth)
    if truth is not None:
        known = (truth != MASK_OUTSIDE) & (truth != MASK_UNKNOWN)
        wrong = float(np.mean(((mask > 0) != (truth == MASK_MOVING)) & known))
    else:
        wrong = 0.0 if should_move else float(np.mean(mask > 0))
    return wrong + (should_move is not None and detection.motion != should_move)


def _tile(
    index: int,
    frame: Luma,
    detection: Detection,
    mask: Plane,
    truth: Plane | None,
    *,
    label: str,
    error: float,
) -> Image:
    size = (_PANE, _PANE * frame.shape[0] // frame.shape[1])
    colours = cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR)
    shape = np.zeros_like(frame) if truth is None else truth
    if truth is not None:
        colours[(mask > 0) & (truth == MASK_MOVING)] = (0, 200, 0)
        colours[(mask > 0) & (truth != MASK_MOVING)] = (60, 60, 255)
        colours[(mask == 0) & (truth == MASK_MOVING)] = (255, 120, 0)
        colours[(truth == MASK_OUTSIDE) | (truth == MASK_UNKNOWN)] //= 3
    panes = [
        cv2.resize(pane, size, interpolation=how)
        for pane, how in (
            (cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), cv2.INTER_AREA),
            (cv2.cvtColor(u8(shape), cv2.COLOR_GRAY2BGR), cv2.INTER_NEAREST),
            (colours, cv2.INTER_NEAREST),
        )
    ]
    for box in detection.boxes:
        corner = (round(box.x * size[0]), round(box.y * size[1]))
        opposite = (round((box.x + box.width) * size[0]), round((box.y + box.height) * size[1]))
        cv2.rectangle(panes[0], corner, opposite, (0, 255, 0), 1)
    kind = f" {detection.scene_change}" if detection.scene_change else ""
    words = (
        f"{index} {detection.reason}{kind} (truth: {label})  score {detection.score:.3f}  "
        f"changed {detection.changed:.2f}  "
        f"noise {detection.noise:.1f}  gain {detection.gain:.2f} {detection.offset:+.0f}  "
        f"shift {detection.shift[0]:+.3f} {detection.shift[1]:+.3f}  wrong {error:.3f}"
    )
    line = np.zeros((18, 3 * size[0], 3), np.uint8)
    cv2.putText(line, words, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(np.vstack([line, np.hstack(panes)]), np.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Run, print the table, and return whether both scorings agree."""
    parser = argparse.ArgumentParser(description="Scores the detector on labelled footage.")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument("--only", help="names of sequences, with commas")
    parser.add_argument("--baselines", default="", help=f"with commas, of {','.join(BASELINES)}; or all")
    parser.add_argument("--sensitivities", action="store_true", help="ours with low and high too")
    parser.add_argument("--results", type=Path, help="keep each sequence's result there, and go on from them")
    parser.add_argument(
        "--sheets", type=Path, help="write a contact sheet of each sequence there, and no more"
    )
    parser.add_argument(
        "--worse-than", metavar="METHOD", help="with --sheets: only where ours is worse than this baseline"
    )
    options = parser.parse_args(arguments)
    if not (options.data / "evaluate.py").exists():
        print(f"{options.data}: no evaluate.py there; name the footage with --data", file=sys.stderr)
        return 2
    named = BASELINES if options.baselines == "all" else [n for n in options.baselines.split(",") if n]
    if unknown := [name for name in named if name not in BASELINES]:
        print(f"{', '.join(unknown)}: not known, expected of {', '.join(BASELINES)}", file=sys.stderr)
        return 2
    cv2.setNumThreads(1)
    sys.path.insert(0, str(options.data))
    evaluate = importlib.import_module("evaluate")
    wanted = set(options.only.split(",")) if options.only else None
    folders = [Path(found) for found in evaluate.sequences(str(options.data))]
    folders = [folder for folder in folders if wanted is None or folder.name in wanted]
    if options.worse_than and (options.worse_than not in BASELINES or not options.sheets):
        print(f"--worse-than takes one of {', '.join(BASELINES)}, and --sheets", file=sys.stderr)
        return 2
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        if options.worse_than:
            with tempfile.TemporaryDirectory() as temporary:
                results = options.results or Path(temporary)
                write_sheets_of_worse(evaluate, options.worse_than, folders, results, options.sheets)
            return 0
        for folder in sorted(folders, key=lambda folder: (folder / "input.mkv").stat().st_size):
            write_sheet(folder, options.sheets / f"{folder.name}.png")
        return 0
    methods: dict[str, tuple[str, Callable[..., Any]]] = {
        f"tests.benchmarks.baselines:{name}": BASELINES[name] for name in named
    }
    if options.sensitivities:
        methods["tests.benchmarks.accuracy:ours_low"] = ("ours, low", ours_low)
        methods["tests.benchmarks.accuracy:ours_high"] = ("ours, high", ours_high)
    methods["tests.benchmarks.accuracy:ours"] = ("**ours**", ours)
    with tempfile.TemporaryDirectory() as temporary:
        return compare(evaluate, methods, folders, options.results or Path(temporary))


def compare(
    evaluate: Any,
    methods: Mapping[str, tuple[str, Callable[..., Any]]],
    folders: Sequence[Path],
    results: Path,
) -> int:
    """Run each method on each sequence that has no result yet; print the scores."""
    rows = []
    outputs, disagreements = 0, []
    cameras = cameras_of(json.loads((folder / "meta.json").read_text()) for folder in folders)
    everything: dict[str, list[tuple[Mapping[str, Any], Score]]] = {}
    for method, (name, factory) in methods.items():
        scored = []
        for folder in folders:
            result = result_of(evaluate, method, folder, results)
            score = score_of(folder, result)
            theirs = result["frame"] | {key: result[key] for key in ("standing",) if key in result}
            if different := differences(score, theirs):
                disagreements.append(f"{name}, {folder.name}: {', '.join(different)}")
            outputs += 1
            scored.append((result, score))
        rows.append(row(name, factory, scored, cameras))
        everything[name] = scored
        print(rows[-1], file=sys.stderr, flush=True)
    ours_alone = [method.partition(":")[2] for method in methods if "accuracy" in method]
    evaluate.report(str(results), dets=ours_alone)
    evaluate.perseq(str(results), None, ours_alone)
    print(f"\n{HEAD}", *rows, sep="\n")
    print(f"\nFrame F1, events found and false alarms, {len(set(cameras.values()))} cameras, by category:\n")
    print(*by_category(everything), sep="\n")
    print(
        "\nevaluate.py's scoring and the product's: "
        f"equal on {outputs - len(disagreements)} of {outputs} outputs"
    )
    for line in disagreements:
        print(line)
    return 1 if disagreements else 0


if __name__ == "__main__":
    sys.exit(main())
