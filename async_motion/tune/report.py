"""Print the output of `async-motion tune`: figures, settings to copy, and how reliable both are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from async_motion.tune import search
from async_motion.tune.clips import Kind
from async_motion.tune.scoring import Score
from async_motion.tune.search import KEYS, Candidate
from async_motion.tune.trials import Bench, Outcome, Present

SCHEMA = "async_motion.tune/1"
SECTIONS = {"sensitivity": "detect", "threshold": "detect", "min_area": "detect", "confirm": "event"}
"""The section of each setting in a camera's settings."""


def changes(present: Candidate, found: Candidate) -> dict[str, Candidate]:
    """Return, for each setting that differs in `found`, the present settings with it alone changed."""
    return {
        key: dataclasses.replace(present, **{key: getattr(found, key)})
        for key in KEYS
        if getattr(found, key) != getattr(present, key)
    }


def written(key: str, candidate: Candidate) -> str:
    """Return a setting as written in the settings file."""
    value = getattr(candidate, key)
    match key:
        case "threshold":
            return "" if value is None else f"{value:g}"
        case "min_area":
            return f"{value * 100:.4g}%"
        case "confirm":
            return f"{value[0]}/{value[1]}"
        case _:
            return str(value)


def _snippet(bench: Bench, present: Present, outcome: Outcome) -> list[str]:
    """Return the lines to copy, each with the effect of that setting alone."""
    before, found = bench.total(outcome.present), outcome.found
    lines = ["cameras:", f"  {present.camera or '<camera>'}:"]
    if present.night:
        lines += ["    profiles:", "      night:"]
    indent = "        " if present.night else "      "
    section = ""
    changed = changes(outcome.present, found)
    if present.night and found.threshold is None and "threshold" in changed and "sensitivity" not in changed:
        # Without a sensitivity for the night, a blank threshold would mean the day's.
        lines.append(f"{indent}sensitivity: {found.sensitivity}")
    for key, alone in changed.items():
        if not present.night and section != (section := SECTIONS[key]):
            lines.append(f"    {section}:")
        setting = f"{indent}{key}: {written(key, found)}"
        was = written(key, outcome.present) or "blank"
        lines.append(f"{setting:<32}# was {was}; alone: {_difference(before, bench.total(alone))}")
    return lines


def _difference(before: Score, after: Score) -> str:
    """Return as text what `after` costs or saves compared with `before`."""
    words = []
    if after.missed != before.missed:
        words.append(
            _count(abs(after.missed - before.missed), "event", after.missed > before.missed, "missed")
        )
    if after.false_alarms != before.false_alarms:
        more = after.false_alarms > before.false_alarms
        words.append(_count(abs(after.false_alarms - before.false_alarms), "false alarm", more, ""))
    latency, was = after.latency_quantile_s(0.5), before.latency_quantile_s(0.5)
    if latency is not None and was is not None and abs(latency - was) >= 0.05:
        words.append(f"{abs(latency - was):.1f} s {'later' if latency > was else 'sooner'}")
    if not words and after.f1 is not None and before.f1 is not None and abs(after.f1 - before.f1) >= 0.001:
        words.append(f"frames F1 {before.f1:.3f} -> {after.f1:.3f}")
    return ", ".join(words) or "no difference"


def _count(number: int, what: str, more: bool, end: str) -> str:
    return " ".join(
        word
        for word in (f"{number} {what}{'s' if number > 1 else ''}", "more" if more else "fewer", end)
        if word
    )


def print_json(bench: Bench, present: Present, outcome: Outcome) -> None:
    """Print the whole result as JSON."""
    print(json.dumps(document(bench, present, outcome), ensure_ascii=False, indent=1))  # noqa: T201  # its output


def print_report(bench: Bench, present: Present, outcome: Outcome) -> None:
    """Print figures, the clips with misses or false alarms, and the settings to copy."""
    console = Console(highlight=False, soft_wrap=True)
    clips = bench.clips
    of_kind = {kind: sum(clip.label.kind is kind for clip in clips) for kind in Kind}
    length_s = sum(clip.seconds for clip in clips)
    again = sum(clip.lumas is None for clip in clips)
    console.print(
        f"{len(clips)} clips, {length_s:.0f} s at {present.fps:g} frames a second: "
        f"{of_kind[Kind.QUIET]} quiet, {of_kind[Kind.MOVING]} with motion somewhere, "
        f"{of_kind[Kind.MARKED]} marked; {len(bench.tried)} settings tried"
        + (f"; {again} beyond the memory for frames, read again each time" if again else "")
    )
    before, after, held_out = bench.total(outcome.present), bench.total(outcome.found), outcome.held_out
    table = Table(Column("", no_wrap=True), "present", "found", box=None, pad_edge=False)
    figures = [_figures(before), _figures(after)]
    if held_out is not None:
        table.add_column("held out: present")
        table.add_column("found")
        figures += [_figures(held_out.present), _figures(held_out.found)]
    for key in figures[0]:
        table.add_row(key, *(figure[key] for figure in figures))
    console.print()
    console.print(table)
    _report_clips(console, bench, outcome)
    console.print()
    for line in _verdict(outcome):
        console.print(line, markup=False)
    if outcome.found != outcome.present:
        console.print()
        for line in _snippet(bench, present, outcome):
            console.print(line, markup=False, soft_wrap=True)


def _figures(score: Score) -> dict[str, str]:
    def number(value: float | None, unit: str = "", digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}{unit}"

    # Without times of motion, frames cannot be scored.
    marked = score.tp + score.fn > 0
    return {
        "events found": f"{score.found} of {score.events}",
        "events, precision": number(score.event_precision),
        "events, recall": number(score.event_recall),
        "latency, median": number(score.latency_quantile_s(0.5), " s", 1),
        "latency, 90 %": number(score.latency_quantile_s(0.9), " s", 1),
        "false alarms": str(score.false_alarms),
        "false alarms an hour": number(score.alarms_an_hour, digits=0),
        "empty and flagged": f"{100 * score.alarm_frames / score.empty_frames:.1f} %"
        if score.empty_frames
        else "-",
        "frames, precision": number(score.precision if marked else None),
        "frames, recall": number(score.recall),
        "frames, F1": number(score.f1 if marked else None),
        "standing, seen": number(score.standing_share),
        "standing, kept": f"{score.spans_kept} of {score.spans}" if score.spans else "-",
    }


def _report_clips(console: Console, bench: Bench, outcome: Outcome) -> None:
    """Print the clips with misses or false alarms, with the present settings or those found."""
    table = Table(Column("clip", overflow="fold"), "present", "found", box=None, pad_edge=False)
    for number, clip in enumerate(bench.clips):
        before, after = (
            _wrong(bench.score(number, candidate)) for candidate in (outcome.present, outcome.found)
        )
        if before or after:
            table.add_row(str(clip.path), before or "right", after or "right")
    if table.row_count:
        console.print()
        console.print(table)


def _wrong(score: Score) -> str:
    words = []
    if score.missed:
        words.append(f"{score.missed} missed")
    if score.false_alarms:
        words.append(f"{score.false_alarms} false alarm{'s' if score.false_alarms > 1 else ''}")
    return ", ".join(words)


def _verdict(outcome: Outcome) -> list[str]:
    """Return lines that say what to do, and how reliable the figures are."""
    held_out = outcome.held_out
    if not outcome.searched:
        return [
            "Scored only: to look for better settings, clips with motion and clips without are both needed.",
        ]
    if outcome.found == outcome.present:
        return ["Nothing better was found: keep the present settings."]
    if held_out is None:
        return [
            "These settings fit the clips that they were chosen on. Whether they fit others is not known:",
            (
                f"to hold clips out, at least {search.MIN_OF_A_KIND} clips with motion and "
                f"{search.MIN_OF_A_KIND} with quiet in them are needed."
            ),
        ]
    seen = f"Held out in turn, {held_out.clips} clips were judged by settings that were found without them:"
    low, high = held_out.gain_interval
    worth = f"{held_out.gain:.1f} false alarms' worth (95 %: {low:.1f} to {high:.1f}, over clips)"
    if not held_out.holds:
        return [
            seen,
            f"there is no gain there: {worth}.",
            "Keep the present settings, or add clips. What fits these clips best:",
        ]
    if low > 0:
        return [seen, f"the gain holds there too: {worth}. To copy:"]
    return [
        seen,
        f"the gain holds there too: {worth},",
        "but few clips make it: more clips would show whether it is more than chance. To copy:",
    ]


def document(bench: Bench, present: Present, outcome: Outcome) -> Mapping[str, Any]:
    """Return the whole result as JSON values, of `SCHEMA`."""
    held_out = outcome.held_out
    before = bench.total(outcome.present)
    return {
        "schema": SCHEMA,
        "camera": present.camera,
        "profile": "night" if present.night else "day",
        "fps": present.fps,
        "present": _settings(outcome.present) | {"score": _score(before)},
        "found": _settings(outcome.found) | {"score": _score(bench.total(outcome.found))},
        "searched": outcome.searched,
        "tried": len(bench.tried),
        "recommended": outcome.recommended,
        "alone": {
            key: {"value": written(key, alone) or None, "score": _score(bench.total(alone))}
            for key, alone in changes(outcome.present, outcome.found).items()
        },
        "held_out": None
        if held_out is None
        else {
            "clips": held_out.clips,
            "present": _score(held_out.present),
            "found": _score(held_out.found),
            "holds": held_out.holds,
            "gain": held_out.gain,
            "gain_95": list(held_out.gain_interval),
        },
        "clips": [
            {
                "clip": str(clip.path),
                "label": clip.label.kind.value,
                "seconds": round(clip.seconds, 3),
                "present": _score(bench.score(number, outcome.present)),
                "found": _score(bench.score(number, outcome.found)),
            }
            for number, clip in enumerate(bench.clips)
        ],
    }


def _settings(candidate: Candidate) -> dict[str, Any]:
    return {
        "sensitivity": candidate.sensitivity,
        "threshold": candidate.threshold,
        "min_area": candidate.min_area,
        "confirm": written("confirm", candidate),
    }


def _score(score: Score) -> dict[str, Any]:
    return {
        "events": score.events,
        "missed": score.missed,
        "false_alarms": score.false_alarms,
        "false_alarms_an_hour": score.alarms_an_hour,
        "latency_median_s": score.latency_quantile_s(0.5),
        "latency_90_s": score.latency_quantile_s(0.9),
        "event_precision": score.event_precision,
        "event_recall": score.event_recall,
        "precision": score.precision if score.tp + score.fn else None,
        "recall": score.recall,
        "f1": score.f1 if score.tp + score.fn else None,
        "empty_frames": score.empty_frames,
        "empty_frames_flagged": score.alarm_frames,
        "empty_s": score.empty_s,
        "standing_frames": score.standing_frames,
        "standing_seen": score.standing_seen,
        "standing_spans": score.spans,
        "standing_spans_kept": score.spans_kept,
    }
