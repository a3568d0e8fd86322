"""Savings and cost of `decode: auto`: ``python -m tests.benchmarks.idling --data PATH``.

PATH holds `evaluate.py` and folders of labelled sequences, as for `tests.benchmarks.accuracy`; `--footage`
names other folders of sequences, such as composed scenes. Each sequence is re-cut to give the camera quiet
spans. Its order is kept, but each stretch without motion is played back and forth for `QUIET_S`. A sequence
that is never quiet is cut into excerpts, separated by its empty scene (the median with noise of its own). It
is then encoded as cameras do (no B-frames, no scene cuts, no look-ahead; keyframes every 1, 2 and 4 s;
constant quality, and constant bit rate), and watched twice, with `all` and with `auto`, by the detector at
its defaults, at 5 fps.

For each GOP and rate mode it prints:

- the labelled events that `all` reports, and how many of them `auto` misses;
- how many `auto` reports on a later frame than `all` and the largest difference, how many of these later than
  the judged frame that follows, and how many on an earlier frame;
- how much later than with `all` a report is out (median, 90 %, maximum), since frames of the ring are decoded
  only after a sign of motion;
- stretches that only `auto` took for motion, away from every label;
- the share of packets that it decoded, in total and while nothing was labelled or reported;
- CPU of demuxing, deciding and decoding in those quiet spans as a share of that of `all` (the footage is
  small: at a camera's size deciding weighs less);
- how often it was woken.

Each clip is watched on one thread in step; a verdict comes one packet late, as in the service.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
from av.video.stream import VideoStream

from async_motion.capture.ffmpeg.decoding import Decoder, prepare, time_base
from async_motion.capture.ffmpeg.frames import FramePicker, luma_of
from async_motion.capture.readers.video import _qp_of
from async_motion.capture.selective.activity import DetectorFeedback, KeyframeActivity
from async_motion.capture.selective.decode_modes import DecodeAll, DecodeAuto, DecodeMode
from async_motion.capture.selective.gop_buffer import GopBuffer
from async_motion.capture.spec import CaptureSpec
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.model import Detection

DEFAULT_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
GOPS_S = (1.0, 2.0, 4.0)
QUIET_S = 20.0
FIRST_QUIET_S = 30.0
MIN_QUIET_S = 0.2
"""A shorter stretch without motion is not extended."""
EXCERPTS, EXCERPT_S = 6, 3.0
EMPTY, GRAINS = -1, 50
"""From EMPTY down, an index in the order stands for a frame of the empty scene."""
FPS = 5.0
SAME_S = 0.01
"""Two frames this close are the same."""
NEAR_S = 1.0
"""A report this close to a label belongs to it."""
BITS_A_PIXEL = {"h264": 0.08, "hevc": 0.05}
RATES: dict[str, dict[str, str]] = {"VBR": {"crf": "26"}, "CBR": {}}
CODECS = {"h264": "libx264", "hevc": "libx265"}

SPEC = CaptureSpec(camera="bench", source="", fps=FPS)


@dataclass(frozen=True, slots=True)
class Recut:
    """A sequence with quiet stretches: the frames to show, and the label of each."""

    name: str
    fps: Fraction
    order: list[int]
    labels: list[int]

    def busy(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return, for each frame, whether there is a label near it."""
        near = np.ones(2 * round(NEAR_S * float(self.fps)) + 1)
        return np.asarray(np.convolve(np.array(self.labels) != 0, near, "same") > 0)


@dataclass(slots=True)
class Watched:
    """The result of one clip. Times are PTS in seconds."""

    verdicts: list[tuple[float, float, Detection]] = field(default_factory=list)
    """(time of the frame, of the packet at which it was out, verdict)"""
    packets: list[tuple[float, int, float]] = field(default_factory=list)
    """(time, number decoded when it came, CPU seconds)"""
    woken: list[float] = field(default_factory=list)

    def motion(self) -> list[tuple[float, float]]:
        return [(at, out) for at, out, detection in self.verdicts if detection.motion]


def recut(folder: Path, meta: dict[str, Any], evaluate: ModuleType) -> Recut | None:
    """Extend the quiet stretches of a sequence; None if nothing in it is at rest and nothing moves."""
    labels, _ = evaluate.labels(str(folder), meta)
    fps = Fraction(meta["fps"]).limit_denominator(1000)
    order: list[int] = []
    for start, end in evaluate.runs(labels == 0):
        if end - start + 1 >= MIN_QUIET_S * fps:
            break
    else:
        return _excerpts(meta["name"], fps, labels)
    position = int(start)
    wanted_s = FIRST_QUIET_S
    for start, end in evaluate.runs(labels == 0):
        if end - start + 1 < MIN_QUIET_S * fps or start < position:
            continue
        order += range(position, start)
        order += _to_and_fro(start, end, round(wanted_s * fps))
        position, wanted_s = end + 1, QUIET_S
    order += range(position, len(labels))
    return Recut(meta["name"], fps, order, [int(labels[at]) for at in order])


def _excerpts(name: str, fps: Fraction, labels: np.ndarray[Any, np.dtype[np.int8]]) -> Recut | None:
    """Cut a sequence that is never quiet into excerpts, with its empty scene between them."""
    moving = np.flatnonzero(labels == 1)
    if not moving.size:
        return None
    length = round(EXCERPT_S * fps)
    draw = np.random.default_rng(1)
    order: list[int] = []
    shown: list[int] = []
    wanted_s = FIRST_QUIET_S
    for start in moving[np.linspace(0, len(moving) - 1, EXCERPTS + 1).astype(int)][:-1]:
        end = min(int(start) + length, len(labels))
        # A little more each time, so that excerpts begin at varying positions in a GOP.
        quiet = round((wanted_s + 0.3 * (len(order) % 7)) * fps)
        order += [EMPTY - int(one) for one in draw.integers(0, GRAINS, quiet)] + list(range(start, end))
        shown += [0] * quiet + [int(label) for label in labels[start:end]]
        wanted_s = QUIET_S
    quiet = round(QUIET_S / 2 * fps)
    order += [EMPTY - int(one) for one in draw.integers(0, GRAINS, quiet)]
    return Recut(name, fps, order, shown + [0] * quiet)


def empty_scene(images: list[Any]) -> list[Any]:
    """Return `GRAINS` frames of the empty scene: the median, with noise of its own."""
    some = np.stack(images[:: max(1, len(images) // 41)])
    still = np.median(some, axis=0)
    pairs = [
        images[at + 1].astype(np.int16) - images[at] for at in range(0, len(images) - 1, len(images) // 21)
    ]
    noise = 1.4826 / 2**0.5 * np.median(np.abs(np.stack(pairs)), axis=0)
    draw = np.random.default_rng(2)
    grains = (draw.standard_normal((*still.shape[:2], 1)) for _ in range(GRAINS))
    return [np.clip(still + grain * np.maximum(noise, 0.5), 0, 255).astype(np.uint8) for grain in grains]


def _to_and_fro(start: int, end: int, least: int) -> list[int]:
    """Walk from `start` to `end`, then back and forth, for at least `least` frames."""
    walk = list(range(start, end + 1))
    while len(walk) < least:
        walk += [*range(end - 1, start, -1), *range(start, end + 1)]
    return walk


def frames_of(folder: Path, meta: dict[str, Any]) -> list[Any]:
    """Return a sequence's frames, cropped to the zone that it is labelled for, with even sides."""
    capture = cv2.VideoCapture(str(folder / "input.mkv"))
    left, top, width, height = meta.get("roi_rect") or (0, 0, 1 << 20, 1 << 20)
    images: list[Any] = []
    while True:
        good, image = capture.read()
        if not good:
            return images
        image = image[top : top + height, left : left + width]
        even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        images.append(np.ascontiguousarray(even))


def encode(path: Path, cut: Recut, images: list[Any], gop_s: float, rate: str, codec: str) -> None:
    """Write a clip as a camera sends it."""
    height, width = images[0].shape[:2]
    gop = round(gop_s * cut.fps)
    bits = round(BITS_A_PIXEL[codec] * width * height * cut.fps)
    options = {"preset": "veryfast", "tune": "zerolatency", **RATES[rate]}
    if codec == "hevc":
        own = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:open-gop=0:pools=1:log-level=none"
        bound = f":vbv-maxrate={bits // 1000}:vbv-bufsize={bits // 1000}" if rate == "CBR" else ""
        options |= {"preset": "ultrafast", "x265-params": own + bound}
    else:
        options |= {"sc_threshold": "0", "bf": "0"}
        if rate == "CBR":
            options |= {"maxrate": str(bits), "bufsize": str(bits)}
    unfinished = path.with_name(f"unfinished-{path.name}")
    with av.open(str(unfinished), "w") as container:
        stream = container.add_stream(CODECS[codec], rate=cut.fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        if rate == "CBR":
            stream.codec_context.bit_rate = bits
        empty = empty_scene(images) if min(cut.order) < 0 else []
        for number, at in enumerate(cut.order):
            image = images[at] if at >= 0 else empty[EMPTY - at]
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, 1 / cut.fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    unfinished.rename(path)


class _Counting(Decoder):
    """Counts the packets that it decodes."""

    decoded = 0

    def decode(self, packet: Any) -> Any:
        if packet is not None:
            self.decoded += 1
        return super().decode(packet)


def watch(path: Path, mode: str) -> Watched:
    """Read a clip in one mode, with a detector behind it."""
    watched = Watched()
    detector = Detector(DetectorSettings())
    feedback = DetectorFeedback()
    picker = FramePicker(FPS)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = _Counting(prepare(stream.codec_context, SPEC), time_base(stream), lambda: None)

        def time_of(own: float | None, pts: float) -> float:
            return pts if own is None else own

        decode_mode: DecodeMode
        if mode == "all":
            decode_mode = DecodeAll(decoder, time_of, picker, intra_only=False)
        else:
            decode_mode = DecodeAuto(
                decoder,
                time_of,
                camera="bench",
                buffer=GopBuffer(max_bytes=SPEC.ring_bytes, max_seconds=SPEC.ring_seconds),
                max_seconds=SPEC.ring_seconds,
                rate=float(stream.average_rate or 25),
                feedback=feedback,
                scene=KeyframeActivity(),
                qp_of=_qp_of(stream),
            )
        pts = 0.0
        untold: list[tuple[float, Detection]] = []
        woken = 0
        packets = container.demux(stream)
        while True:
            began = time.thread_time()
            packet = next(packets, None)
            if packet is None:
                break
            if packet.pts is not None:
                pts = float(packet.pts * packet.time_base)
            before = decoder.decoded
            frames = decode_mode.feed(packet, pts) if packet.size else decode_mode.finish(pts)
            shown = [(one.at, luma_of(one.frame)) for one in frames or () if picker.wants(one.at)]
            took = time.thread_time() - began
            for at, detection in untold:
                feedback.tell(at, detection)
            untold.clear()
            for at, luma in shown:
                detection = detector.update(luma, at)
                untold.append((at, detection))
                watched.verdicts.append((at, pts, detection))
            watched.packets.append((pts, decoder.decoded - before, took))
            if isinstance(decode_mode, DecodeAuto) and decode_mode.woken > woken:
                woken = decode_mode.woken
                watched.woken.append(pts)
    return watched


@dataclass(slots=True)
class Tally:
    """The figures of one GOP and rate mode."""

    events: int = 0
    missed: list[str] = field(default_factory=list)
    later: dict[str, float] = field(default_factory=dict)
    beyond: list[str] = field(default_factory=list)
    """What is later than the judged frame that follows the first of `all`."""
    earlier: int = 0
    delay: list[float] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    packets: int = 0
    decoded: int = 0
    quiet_packets: int = 0
    quiet_decoded: int = 0
    quiet_cpu: dict[str, float] = field(default_factory=lambda: {"all": 0.0, "auto": 0.0})
    woken: int = 0

    def add(self, cut: Recut, every: Watched, auto: Watched, evaluate: ModuleType) -> str:
        """Add one clip; return a line about it: events/missed, share decoded while idle/times woken."""
        before = replace(self, missed=list(self.missed))
        self._compare(cut, every, auto, evaluate)
        self._count(cut, every, auto)
        events, missed = self.events - before.events, len(self.missed) - len(before.missed)
        packets = max(1, self.quiet_packets - before.quiet_packets)
        share = 100 * (self.quiet_decoded - before.quiet_decoded) / packets
        return f"{events}/{missed} {share:.0f}%/{self.woken - before.woken}"

    def _compare(self, cut: Recut, every: Watched, auto: Watched, evaluate: ModuleType) -> None:
        """Compare the reports, event by event and away from all events."""
        fps = float(cut.fps)
        labels = np.array(cut.labels)
        for start, end in evaluate.join(evaluate.runs(labels == 1), round(fps)):
            first, last = start / fps - NEAR_S / 2, end / fps + NEAR_S / 2
            all_in = [found for found in every.motion() if first <= found[0] <= last]
            if not all_in or last < FIRST_QUIET_S / 2:
                continue
            self.events += 1
            auto_in = [found for found in auto.motion() if first <= found[0] <= last]
            if not auto_in:
                self.missed.append(f"{cut.name} at {first:.1f} s ({len(all_in)} in all)")
                continue
            self._time(f"{cut.name} at {first:.1f} s", every, all_in[0], auto_in[0])
        busy = cut.busy()
        heard = [at for at, _ in every.motion()]
        latest = float("-inf")
        for at, _ in auto.motion():
            if busy[min(len(busy) - 1, round(at * fps))] or any(abs(at - one) <= 2 * NEAR_S for one in heard):
                continue
            if at - latest > 2 * NEAR_S:
                self.added.append(f"{cut.name} at {at:.0f} s")
            latest = at

    def _time(
        self, event: str, every: Watched, first_all: tuple[float, float], first_auto: tuple[float, float]
    ) -> None:
        """Compare the times of an event's first report."""
        by_s = first_auto[0] - first_all[0]
        if by_s > SAME_S:
            self.later[event] = by_s
            following = [at for at, _, _ in every.verdicts if at > first_all[0]]
            if following and first_auto[0] > following[0] + SAME_S:
                self.beyond.append(f"{event} by {by_s:.2f} s")
        self.earlier += by_s < -SAME_S
        self.delay.append(max(0.0, first_auto[1] - first_all[1]))

    def _count(self, cut: Recut, every: Watched, auto: Watched) -> None:
        """Add up the packets decoded, and the CPU time of the quiet spans."""
        fps = float(cut.fps)
        busy = cut.busy()
        self.packets += len(auto.packets)
        self.decoded += sum(count for _, count, _ in auto.packets)
        for at, _ in every.motion():
            middle = round(at * fps)
            busy[max(0, middle - round(3 * fps)) : middle + round(3 * fps)] = True
        busy[: round(12 * fps)] = True  # everything is decoded at first
        for mode, watched in (("all", every), ("auto", auto)):
            for at, count, took in watched.packets:
                if not busy[min(len(busy) - 1, round(at * fps))]:
                    self.quiet_cpu[mode] += took
                    if mode == "auto":
                        self.quiet_packets += 1
                        self.quiet_decoded += count
        self.woken += len(auto.woken)


def sequences(data: Path, only: set[str] | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(data.rglob("meta.json")):
        meta = json.loads(path.read_text())
        if not only or meta["name"] in only:
            yield path.parent, meta


@dataclass(frozen=True, slots=True)
class Job:
    """One sequence, to be watched in every encoding."""

    folder: Path
    meta: dict[str, Any]
    data: Path
    clips: Path
    codec: str
    encodings: Sequence[tuple[str, float]]

    def run(self) -> tuple[Recut, list[tuple[Watched, Watched]]] | None:
        """Return the results of `all` and `auto` for each rate mode and GOP; None if nothing can be cut."""
        cv2.setNumThreads(1)
        cut = recut(self.folder, self.meta, scoring(self.data))
        if cut is None:
            return None
        images: list[Any] = []
        seen = []
        for rate, gop_s in self.encodings:
            path = self.clips / f"{self.folder.parent.name}-{cut.name}-{self.codec}-{rate}-{gop_s:g}.mp4"
            if not path.exists():
                images = images or frames_of(self.folder, self.meta)
                encode(path, cut, images, gop_s, rate, self.codec)
            seen.append((watch(path, "all"), watch(path, "auto")))
        return cut, seen


def scoring(data: Path) -> ModuleType:
    """Return the footage's `evaluate.py` as a module."""
    if str(data) not in sys.path:
        sys.path.insert(0, str(data))
    return importlib.import_module("evaluate")


def main() -> int:
    parser = argparse.ArgumentParser(description="what `decode: auto` saves and what it costs")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA)
    parser.add_argument(
        "--footage", type=Path, action="append", help="folder of sequences (repeatable), instead of PATH's"
    )
    parser.add_argument("--only", help="names of sequences, with commas between")
    parser.add_argument("--clips", type=Path, help="keep the encoded clips here and use them again")
    parser.add_argument("--codec", choices=CODECS, default="h264")
    parser.add_argument("--gop", type=float, action="append", help="seconds between keyframes (repeatable)")
    parser.add_argument("--jobs", type=int, default=1, help="sequences at a time")
    parser.add_argument("--verbose", action="store_true", help="name what was missed, later and added")
    options = parser.parse_args()
    if not (options.data / "evaluate.py").is_file():
        print(f"{options.data}: no evaluate.py there; see --data", file=sys.stderr)
        return 2
    evaluate = scoring(options.data)
    encodings = [(rate, gop_s) for rate in RATES for gop_s in options.gop or GOPS_S]
    tallies = {encoding: Tally() for encoding in encodings}
    with tempfile.TemporaryDirectory(prefix="async_motion-idling-") as name:
        clips = options.clips or Path(name)
        clips.mkdir(parents=True, exist_ok=True)
        only = set(options.only.split(",")) if options.only else None
        jobs = [
            Job(*found, options.data, clips, options.codec, encodings)
            for folder in options.footage or [options.data]
            for found in sequences(folder, only)
        ]
        with ProcessPoolExecutor(options.jobs) as workers:
            for done in workers.map(Job.run, jobs):
                if done is None:
                    continue
                cut, seen = done
                line = [
                    tally.add(cut, *watched, evaluate)
                    for tally, watched in zip(tallies.values(), seen, strict=True)
                ]
                print(f"{cut.name:24s} {'  '.join(line)}", file=sys.stderr, flush=True)
    print(
        "rate  GOP s  events  missed  later  by s  beyond next  earlier  out s, 50%   90%  most  added"
        "  decoded %  idle %  CPU %  woken"
    )
    for (rate, gop_s), tally in tallies.items():
        half, most, last = np.quantile(tally.delay or [0.0], [0.5, 0.9, 1.0])
        print(
            f"{rate:4s}  {gop_s:5g}  {tally.events:6d}  {len(tally.missed):6d}  {len(tally.later):5d}"
            f"  {max(tally.later.values(), default=0):4.2f}  {len(tally.beyond):11d}  {tally.earlier:7d}"
            f"  {half:10.2f}  {most:4.2f}  {last:4.2f}"
            f"  {len(tally.added):5d}  {100 * tally.decoded / max(1, tally.packets):9.0f}"
            f"  {100 * tally.quiet_decoded / max(1, tally.quiet_packets):6.0f}"
            f"  {100 * tally.quiet_cpu['auto'] / max(1e-9, tally.quiet_cpu['all']):5.0f}  {tally.woken:5d}"
        )
        if options.verbose:
            for text in tally.missed:
                print(f"    missed: {text}")
            for text, by_s in tally.later.items():
                print(f"    later: {text} by {by_s:.2f} s")
            for text in tally.beyond:
                print(f"    later than the next judged frame: {text}")
            for text in tally.added:
                print(f"    added: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
