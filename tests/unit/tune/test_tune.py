"""`async-motion tune` on small clips: its input, search, report and refusals."""

# ruff: noqa: SLF001  (parts of the report alone)

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from async_motion.cli import main
from async_motion.core.detection.detector import Detector, DetectorSettings
from async_motion.core.detection.working_image import working_image, working_size
from async_motion.errors import UsageError
from async_motion.settings import load
from async_motion.tune import Present, present, report
from async_motion.tune.clips import (
    ClipMemory,
    Kind,
    Label,
    Verdicts,
    find_clips,
    label_clips,
    read_clip,
    read_labels,
    reduced,
)
from async_motion.tune.scoring import Score
from async_motion.tune.search import Candidate
from async_motion.tune.trials import Bench, HeldOut, Outcome, find
from tests.support.video import Image, crossing, ground, scene, write_clip

SIZE = (160, 120)
FPS = 10
BLIND = Candidate(sensitivity="medium", threshold=None, min_area=0.3, confirm=(2, 3))
"""Settings whose minimum area is larger than the box."""


def lit(images: Iterator[Image], from_s: float) -> Iterator[Image]:
    """Brighten the images from `from_s` seconds on, as a lamp does."""
    for number, image in enumerate(images):
        bright = np.clip(image.astype(np.int16) + 40, 0, 255).astype(np.uint8)
        yield bright if number >= from_s * FPS else image


def moving(path: Path, *, start_s: float, seed: int = 7) -> Path:
    box = crossing(SIZE, start_s=start_s, length_s=2.0, share=0.3)
    return write_clip(path, scene(seconds=7, fps=FPS, size=SIZE, box=box, noise=2, seed=seed), fps=FPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write clips into motion/ and quiet/, and one that a label file marks; return their folder."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("motion", "quiet"):
        (root / name).mkdir()
    moving(root / "motion/walk.mp4", start_s=3.0)
    still = scene(seconds=6, fps=FPS, size=SIZE, noise=4)
    write_clip(root / "quiet/noise.mp4", still, fps=FPS)
    write_clip(root / "quiet/lamp.mkv", lit(scene(seconds=6, fps=FPS, size=SIZE, noise=2), 3.0), fps=FPS)
    moving(root / "marked.mp4", start_s=3.0, seed=9)
    (root / "labels.yaml").write_text("marked.mp4: [[3, 0:05]]\n")
    (root / "settings.yaml").write_text("cameras: {porch: {source: 'demo:', detect: {min_area: 30%}}}\n")
    return root


@pytest.fixture(scope="module")
def bench(folder: Path) -> Bench:
    clips, _ = label_clips(find_clips([folder]), read_labels(folder / "labels.yaml"), folder)
    memory = ClipMemory(1 << 30)
    read = [read_clip(path, label, fps=5, memory=memory) for path, label in clips]
    return Bench(read, DetectorSettings(), miss_cost=5)


def run(folder: Path, *more: str) -> int:
    settings = str(folder / "settings.yaml")
    labels = str(folder / "labels.yaml")
    return main(["tune", str(folder), "--labels", labels, "--config", settings, "--camera", "porch", *more])


# ---- the whole command ----


def test_settings_that_miss_everything_are_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == report.SCHEMA
    assert said["camera"] == "porch"
    assert said["present"]["min_area"] == 0.3
    assert (said["present"]["score"]["events"], said["present"]["score"]["missed"]) == (2, 2)
    assert said["found"]["score"]["missed"] == 0
    assert said["found"]["min_area"] < 0.3
    assert said["alone"]["min_area"]["score"]["missed"] == 0
    labels = {Path(clip["clip"]).name: clip["label"] for clip in said["clips"]}
    assert labels == {
        "walk.mp4": "motion",
        "noise.mp4": "quiet",
        "lamp.mkv": "quiet",
        "marked.mp4": "marked",
    }
    assert said["present"]["score"]["empty_s"] == pytest.approx(6 + 6 + 7 - 2, abs=0.8)
    assert said["held_out"]["clips"] == 4
    assert said["recommended"] is said["held_out"]["holds"] is True


def test_the_report_for_people_holds_the_settings_to_copy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder) == 0
    said = capsys.readouterr()
    assert "4 clips, 26 s at 5 frames a second: 2 quiet, 1 with motion somewhere, 1 marked" in said.out
    assert "0 of 2" in said.out
    assert "Held out in turn, 4 clips" in said.out
    settings = said.out[said.out.index("cameras:") :]
    assert settings.startswith("cameras:\n  porch:\n    detect:\n")
    assert "# was 30%; alone: 2 events fewer missed" in settings
    assert said.err == ""


# ---- clips ----


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (16, 16), (405, 399), (719, 1281), (1080, 1920), (2160, 3840), (7, 5000), (5000, 7), (1, 900)],
)
def test_reduced_lumas_give_the_same_working_image(shape: tuple[int, int]) -> None:
    luma = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    small = reduced(luma)
    assert small.shape == working_size(*shape)
    assert not np.shares_memory(small, luma)
    np.testing.assert_array_equal(working_image(small), working_image(luma))


def test_reduced_lumas_are_judged_as_whole_ones() -> None:
    """The detector must give the same verdict on the reduced luma that is kept of a clip."""
    size = (1280, 720)
    whole, small = Detector(DetectorSettings()), Detector(DetectorSettings())
    box = crossing(size, start_s=2.0, length_s=2.0, share=0.4)
    seen = 0
    for number, image in enumerate(scene(seconds=4.4, fps=5, size=size, box=box)):
        luma = np.ascontiguousarray(image[:, :, 1])
        at = number / 5
        kept = reduced(luma)
        assert kept.size < luma.size
        verdict = whole.update(luma, at)
        assert small.update(kept, at) == verdict
        seen += verdict.motion
    assert seen


def test_a_clip_beyond_the_memory_is_read_again_and_judged_alike(folder: Path) -> None:
    label = Label(kind=Kind.MOVING)
    memory = ClipMemory(10_000)
    big = read_clip(folder / "motion/walk.mp4", label, fps=5, memory=memory)
    small = read_clip(folder / "motion/walk.mp4", label, fps=5, memory=ClipMemory(1 << 30))
    assert big.lumas is None
    assert memory.left == 10_000
    assert small.lumas is not None
    assert big.judge(DetectorSettings()) == small.judge(DetectorSettings())


def test_marks_become_frames(folder: Path) -> None:
    path = folder / "marked.mp4"
    label = Label(kind=Kind.MARKED, events=((3.0, 4.0), (5.13, 5.14)), unsure=((4.2, 4.4), (0.0, 1.0)))
    clip = read_clip(path, label, fps=5, memory=ClipMemory(0))
    assert clip.fps == pytest.approx(5)
    assert clip.labels is not None
    marked = "".join("?.M"[label + 1] for label in clip.labels)
    assert marked == "??????.........MMMMMM??...M........"


def test_who_stands_is_scored_apart(folder: Path) -> None:
    label = Label(kind=Kind.MARKED, events=((3.0, 5.0),), standing=((3.4, 4.2), (4.6, 4.9)))
    clip = read_clip(folder / "marked.mp4", label, fps=5, memory=ClipMemory(0))
    motion = [3.4 - 1e-6 <= at <= 4.0 + 1e-6 for at in clip.times]
    score = clip.score(Verdicts(motion=motion, forgets=[False] * len(motion)), (1, 1))
    assert (score.standing_seen, score.standing_frames) == (4, 7)
    assert (score.spans_kept, score.spans) == (0, 2)
    assert report._figures(score)["standing, seen"] == "0.571"
    assert report._score(score)["standing_spans"] == 2


def test_a_slow_clip_keeps_its_own_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "slow.mkv", scene(seconds=6, fps=2, size=SIZE), fps=2)
    clip = read_clip(path, Label(kind=Kind.QUIET), fps=5, memory=ClipMemory(0))
    assert clip.fps == pytest.approx(2)
    assert clip.seconds == pytest.approx(6)


def test_a_clip_that_changes_its_size_is_judged_to_its_end(folder: Path) -> None:
    clip = read_clip(folder / "quiet/noise.mp4", Label(kind=Kind.QUIET), fps=5, memory=ClipMemory(1 << 30))
    assert clip.lumas is not None
    clip.lumas[10:] = [luma[:60, :80] for luma in clip.lumas[10:]]
    verdicts = clip.judge(DetectorSettings())
    assert len(verdicts.motion) == len(clip.times)
    assert verdicts.forgets[10]


# ---- trials ----


def test_no_clip_is_judged_twice_alike(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.cost(BLIND)

    def never(*_: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr("async_motion.tune.clips.Detector", never)
    assert bench.cost(Candidate(sensitivity="medium", threshold=None, min_area=0.3, confirm=(1, 1))) > 0


def test_costs_of_clips_add_up(bench: Bench) -> None:
    numbers = range(len(bench.clips))
    assert bench.cost(BLIND) == pytest.approx(sum(bench.cost(BLIND, [number]) for number in numbers))
    assert bench.total(BLIND).events == 2


def test_without_enough_clips_none_is_held_out(bench: Bench) -> None:
    few = Bench(bench.clips[:2], DetectorSettings(), miss_cost=5)
    start = Present(camera=None, fps=5, detection=DetectorSettings(), confirm=(2, 3))
    assert find(few, start).held_out is None


@pytest.mark.parametrize("kind", [Kind.QUIET, Kind.MOVING])
def test_clips_of_one_kind_are_scored_and_nothing_is_searched(
    bench: Bench, kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best settings for quiet clips alone would detect nothing."""
    one_sided = Bench(
        [clip for clip in bench.clips if clip.label.kind is kind], DetectorSettings(), miss_cost=5
    )
    start = Present(camera=None, fps=5, detection=DetectorSettings(min_area=0), confirm=(1, 1))
    result = find(one_sided, start)
    assert result.found == start.candidate
    assert not result.searched
    assert len(one_sided.tried) == 0
    report.print_report(one_sided, start, result)
    assert "Scored only: to look for better settings" in capsys.readouterr().out


def test_the_present_settings_are_those_of_the_camera() -> None:
    start = present(None, None)
    assert (start.camera, start.fps, start.confirm) == (None, 5.0, (2, 3))
    assert start.candidate == Candidate(sensitivity="medium", threshold=None, min_area=0.002, confirm=(2, 3))


# ---- the report ----


def outcome(found: Candidate, held_out: HeldOut | None) -> Outcome:
    return Outcome(present=BLIND, found=found, held_out=held_out)


def test_a_gain_that_does_not_hold_is_not_recommended(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Present(camera=None, fps=5, detection=DetectorSettings(min_area=0.3), confirm=(2, 3))
    found = Candidate(sensitivity="medium", threshold=None, min_area=0.002, confirm=(2, 3))
    vain = HeldOut(clips=4, present=Score(), found=Score(), present_cost=1, found_cost=1, gains=(1, -1, 0, 0))
    assert not outcome(found, vain).recommended
    report.print_report(bench, start, outcome(found, vain))
    said = capsys.readouterr().out
    assert "there is no gain there: 0.0 false alarms' worth (95 %: " in said
    assert "Keep the present settings" in said
    assert "  <camera>:\n" in said
    assert not report.document(bench, start, outcome(found, vain))["recommended"]


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((2.0, 2.0, 2.0, 2.0), "8.0 false alarms' worth (95 %: 8.0 to 8.0, over clips). To copy:"),
        ((8.0, 0.0, 0.0, 0.0), "but few clips make it"),
    ],
)
def test_a_gain_is_told_with_its_interval(
    gains: tuple[float, ...], words: str, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Present(camera=None, fps=5, detection=DetectorSettings(min_area=0.3), confirm=(2, 3))
    found = Candidate(sensitivity="medium", threshold=None, min_area=0.002, confirm=(2, 3))
    held = HeldOut(clips=4, present=Score(), found=Score(), present_cost=9.0, found_cost=1.0, gains=gains)
    report.print_report(bench, start, outcome(found, held))
    assert words in capsys.readouterr().out
    told = report.document(bench, start, outcome(found, held))["held_out"]
    assert told["gain"] == 8.0
    assert told["gain_95"][0] <= 8.0 <= told["gain_95"][1]


def test_sorted_clips_alone_say_nothing_of_single_frames() -> None:
    sorted_only = Score(events=4, missed=1, false_alarms=1, fp=20, tn=80)
    figures = report._figures(sorted_only)
    assert (figures["events, precision"], figures["events, recall"]) == ("0.750", "0.750")
    assert (figures["frames, precision"], figures["frames, recall"], figures["frames, F1"]) == ("-", "-", "-")
    told = report._score(sorted_only)
    assert (told["event_precision"], told["precision"], told["f1"]) == (0.75, None, None)


def test_where_none_was_held_out_it_says_so(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    start = Present(camera=None, fps=5, detection=DetectorSettings(), confirm=(2, 3))
    found = Candidate(sensitivity="low", threshold=20.0, min_area=0.002, confirm=(3, 4))
    report.print_report(bench, start, outcome(found, None))
    said = capsys.readouterr().out
    assert "fit the clips that they were chosen on" in said
    for line in ("sensitivity: low", "threshold: 20", "min_area: 0.2%", "event:", "confirm: 3/4"):
        assert line in said
    report.print_report(bench, start, outcome(BLIND, None))
    said = capsys.readouterr().out
    assert "Nothing better was found: keep the present settings." in said
    assert "cameras:" not in said


def test_the_settings_of_the_night_are_tuned_for_the_night(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(
        "cameras:\n  porch:\n    source: 'demo:'\n    detect: {threshold: 30}\n"
        "    profiles: {night: {sensitivity: low, min_area: 30%}}\n"
    )
    settings = load(path, {})
    start = present(settings, "porch", night=True)
    assert start.candidate == Candidate(sensitivity="low", threshold=None, min_area=0.3, confirm=(2, 3))
    assert present(settings, "porch").candidate.threshold == 30
    result = find(bench, start)
    assert result.found.confirm == (2, 3), "the night has none of its own"
    assert result.found.min_area < 0.3
    report.print_report(bench, start, result)
    said = capsys.readouterr().out
    assert "  porch:\n    profiles:\n      night:\n        " in said
    assert report.document(bench, start, result)["profile"] == "night"

    loud = dataclasses.replace(start.candidate, threshold=40.0)
    quiet = Outcome(present=loud, found=start.candidate, held_out=None)
    report.print_report(bench, start, quiet)
    said = capsys.readouterr().out
    assert "        sensitivity: low\n        threshold: " in said, "else the day's threshold would hold"


# ---- labels ----


def label_file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


MARKS = Label(
    kind=Kind.MARKED,
    events=((2.0, 4.5), (62.0, 70.0)),
    unsure=((5.0, 6.0),),
    standing=((63.0, 69.5),),
)


IN_YAML = """
a.mp4: quiet
b.mp4: motion
c.mp4: {events: [[2, 4.5s], [1:02, '1:10']], unsure: [[5, 6]], standing: [[1:03, 69.5]]}
"""
IN_JSON = """
{"a.mp4": "quiet", "b.mp4": "motion",
 "c.mp4": {"events": [[2, "0:04.5"], [62, 70]], "unsure": [[5, 6]],
           "standing": [["1:03", 69.5]]}}
"""
IN_CSV = """clip, start, end, label
a.mp4,,,quiet
b.mp4,,,Motion
c.mp4,2,4.5
c.mp4,1:02,0:01:10,motion
c.mp4,5,6,unsure
c.mp4,1:03,69.5,standing
"""


@pytest.mark.parametrize(("name", "text"), [("l.yaml", IN_YAML), ("l.json", IN_JSON), ("l.CSV", IN_CSV)])
def test_labels_can_be_written_in_three_ways(tmp_path: Path, name: str, text: str) -> None:
    labels = read_labels(label_file(tmp_path, name, text))
    assert {label.said_in for label in labels.values()} == {str(tmp_path / name)}
    assert labels["a.mp4"].kind is Kind.QUIET
    assert labels["b.mp4"].kind is Kind.MOVING
    assert dataclasses.replace(labels["c.mp4"], said_in="") == MARKS


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("l.yaml", "a: [", "l.yaml:1: broken YAML: "),
        ("l.yaml", "", "labels no clip"),
        ("l.yaml", "- a", "labels no clip"),
        ("l.yaml", "a: loud", "a: cannot be read, expected quiet, motion, [[from, to], …]"),
        ("l.yaml", "a: {times: []}", "a: cannot be read, expected quiet"),
        ("l.yaml", "a: [1, 2]", "a: cannot be read, expected a list of [from, to]"),
        ("l.yaml", "a: [[1, 2, 3]]", "a: cannot be read, expected a list of [from, to]"),
        ("l.yaml", "a: [[5, 2]]", "a: from 5 to 2: ends before it begins"),
        ("l.yaml", "a: [[-1, 2]]", "a: -1 is not a time in the clip"),
        ("l.yaml", "a: [[true, 2]]", "a: True is not a time in the clip"),
        ("l.yaml", "a: [[.nan, 2]]", "a: nan is not a time in the clip"),
        ("l.yaml", "a: [[soon, 2]]", "a: 'soon' is not a time in the clip"),
        ("l.json", '{"a": }', "l.json:1: broken JSON: "),
        ("l.csv", "a.mp4,1,2\n", "l.csv:1: expected a first line `clip,start,end`"),
        ("l.csv", "clip,start,end\na.mp4,,\n", "l.csv:2: a.mp4: expected times, or label quiet"),
        ("l.csv", "clip,start,end\n,1,2\n", "l.csv:2: names no clip"),
        ("l.csv", "clip,start,end\na.mp4,1\n", "l.csv:2: a.mp4: '' is not a time"),
        ("l.csv", "clip,start,end,label\na.mp4,1,2,cat\n", "l.csv:2: a.mp4: label 'cat' is not known"),
        ("l.csv", "clip,start,end,label\na,,,quiet\na,1,2,\n", "l.csv:3: a: has two labels"),
        ("l.yaml", "a: {events: [[1, 5]], standing: [[4, 6]]}", "a: standing 4 to 6 s is outside the events"),
        ("l.csv", "clip,start,end,label\na,,,quiet\na,1,2,standing\n", "a: standing 1 to 2 s is outside"),
    ],
)
def test_labels_that_cannot_be_read_say_where(tmp_path: Path, name: str, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_labels(label_file(tmp_path, name, text))
    assert problem in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_an_invalid_file_of_labels(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: cannot be read \(No such file"):
        read_labels(tmp_path / "none.yaml")
    (tmp_path / "l.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not text"):
        read_labels(tmp_path / "l.yaml")


def test_the_nearest_folder_says_what_a_clip_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "motion" / "set"
    for name in ("Quiet/a.mp4", "quiet/motion/b.MKV", "c.mp4", "quiet/notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert [(path.name, kind) for path, kind in find_clips([root])] == [
        ("a.mp4", Kind.QUIET),
        ("c.mp4", None),  # folders above the given one do not label a clip
        ("b.MKV", Kind.MOVING),
    ]
    assert find_clips([root / "Quiet/a.mp4"]) == [(root / "Quiet/a.mp4", Kind.QUIET)]
    monkeypatch.chdir(root / "Quiet")
    assert find_clips([Path()]) == [(Path("a.mp4"), Kind.QUIET)]


def test_a_name_stands_for_the_clip_whose_path_ends_in_it(tmp_path: Path) -> None:
    clips: list[tuple[Path, Kind | None]] = [(tmp_path / "a/x.mp4", None), (tmp_path / "b/x.mp4", Kind.QUIET)]
    quiet = Label(kind=Kind.QUIET)
    labelled, unused = label_clips(clips, {"a/x.mp4": quiet, "y.mp4": quiet}, Path("l.yaml"))
    assert labelled[0] == (tmp_path / "a/x.mp4", quiet)
    assert labelled[1][1].kind is Kind.QUIET
    assert unused == ["y.mp4"]
    with pytest.raises(UsageError, match=r"l\.yaml: x\.mp4: matches 2 clips"):
        label_clips(clips, {"x.mp4": quiet}, Path("l.yaml"))


# ---- refusals ----


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run `tune` with invalid arguments; return the one line that it writes to stderr."""
    assert main(["tune", *(str(argument) for argument in arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_no_such_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, tmp_path / "none.mp4") == f"{tmp_path}/none.mp4: no such file"


def test_a_folder_without_clips(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, tmp_path).startswith(f"{tmp_path}: holds no clip")


def test_a_clip_without_a_label(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = refused(capsys, folder)
    expected = "expected it in a folder motion/ or quiet/, or in the --labels file"
    assert line == f"{folder}/marked.mp4: has no label, {expected}"


def test_a_clip_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    broken = tmp_path / "quiet/broken.mp4"
    broken.write_bytes(b"this is no video " * 99)
    assert refused(capsys, broken) == f"{broken}: is not a video that can be read"


def test_a_label_outside_of_its_clip(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path, "l.yaml", "marked.mp4: [[2, 3], [6, 9]]\n")
    line = refused(capsys, folder / "marked.mp4", "--labels", labels)
    assert line == f"{labels}: marked.mp4: event 6 to 9 s is outside the clip, expected 0 to 7.0 s"


def test_a_clip_of_one_frame(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    path = write_clip(tmp_path / "quiet/one.mp4", [ground(*SIZE)])
    assert "holds 1 image(s), expected a clip of some seconds" in refused(capsys, path)


def test_no_such_camera(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = refused(capsys, folder, "--config", folder / "settings.yaml", "--camera", "yard")
    assert line == "--camera yard: no such camera, expected one of porch"


@pytest.mark.parametrize("cost", ["0", "-1", "much", "inf"])
def test_a_wrong_cost(cost: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", "x", "--miss-cost", cost])
    assert ended.value.code == 2
    assert "--miss-cost" in capsys.readouterr().err


def test_names_that_no_clip_has_are_noted(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    labels = label_file(tmp_path, "l.yaml", "noise.mp4: quiet\nelse.mp4: quiet\n")
    assert main(["tune", str(folder / "quiet/noise.mp4"), "--labels", str(labels)]) == 0
    assert capsys.readouterr().err == f"{labels}: not among the given clips: else.mp4\n"
    arguments: Any = ["tune", str(folder / "quiet/noise.mp4"), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["held_out"] is None
