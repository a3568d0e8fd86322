"""Render a report as text for a terminal: no images, at most some hundred columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from async_motion.core.words import counted
from async_motion.retrieval import report_words as words
from async_motion.retrieval.report import CameraDay, Report

MAX_OUTAGES = 20
"""Of more outages the longest are listed."""

_FIGURE = re.compile(r"|[\d,.]+( ?%| s| min| h \d\d min)?|[\d,]+ × \(.*\)")
"""A count, a share or a duration, or nothing."""


def text(report: Report) -> str:
    """Return the report as lines of text."""
    return "\n".join(line.rstrip() for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    days = report.cameras.values()
    yield f"{words.title(report)} (local time, {words.offsets(report)})"
    yield ", ".join(
        (
            counted(report.events, "event"),
            counted(len(days), "camera"),
            f"{words.lasted(sum(day.moving_s for day in days))} of motion",
            counted(sum(day.frames for day in days), "frame"),
            f"{words.size(sum(day.size for day in days))} stored",
        )
    )
    if report.cameras:
        yield ""
        head = ("camera", "events", "motion", "frames", "busiest hour", "zones")
        yield from _table(head, [_row(report, camera, day) for camera, day in report.cameras.items()])
    if report.events:
        yield ""
        yield from _table(("camera", *words.ENDS), words.end_rows(report))
    yield ""
    if report.service is None:
        yield "The bucket has no day log of this time: what was watched, lost and suppressed is not known."
        return
    yield from _watching(report)
    yield from _outages(report)


def _row(report: Report, camera: str, day: CameraDay) -> tuple[str, ...]:
    busiest = ""
    if day.hours:
        place, count = max(day.hours.items(), key=lambda each: (each[1], -each[0]))
        at = report.marks[place]
        busiest = f"{at:%H:%M} ({count})" if report.is_day else f"{at:%a %H:%M} ({count})"
    return (
        camera,
        f"{day.events:,}",
        words.lasted(day.moving_s),
        f"{day.frames:,}",
        busiest,
        ", ".join(f"{zone} {count}" for zone, count in day.zones.most_common(5)),
    )


def _watching(report: Report) -> Iterator[str]:
    assert report.service is not None
    rows = [
        (
            camera,
            f"{report.watched(day.account):.1%}",
            words.paused(day.account),
            words.offline(day.account),
            words.counts(words.LOST, day.account.total.lost),
            ", ".join(
                f"{day.account.total.stretches[reason]:,} {name}"
                for reason, name in words.SUPPRESSED.items()
                if day.account.total.stretches[reason]
            ),
        )
        for camera, day in report.cameras.items()
    ]
    yield from _table(("camera", "watched", "paused", "offline", "frames lost", "suppressed, times"), rows)
    changes = "; ".join(words.scene_changes(report))
    if changes:
        yield f"Changes of the whole scene: {changes}."
    lost = words.counts(words.LOST, report.service.total.lost)
    yield ""
    yield f"The service ran for {report.watched(report.service):.1%} of the time. " + (
        f"Lost after the spool had accepted them: {lost}." if lost else "It lost nothing that it accepted."
    )


def _outages(report: Report) -> Iterator[str]:
    rows, left = words.outage_rows(report, MAX_OUTAGES)
    if not rows and not left:
        yield "No outages of a camera, the store or the broker."
        return
    yield ""
    yield from _table(("outage", "began", "lasted", "why"), rows)
    if left:
        yield f"and {left:,} shorter"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield aligned lines; figures to the right, an empty cell as a dash."""
    cells = [list(head), *([cell or "–" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    right = [all(_FIGURE.fullmatch(row[column]) for row in rows) for column in range(len(head))]
    for line in cells:
        yield "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
