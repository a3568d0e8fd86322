"""Render a report as one HTML file: no script, no requests; for light and dark, phone and print."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources
from math import log1p

from async_motion.core.words import counted
from async_motion.retrieval import report_words as words
from async_motion.retrieval.report import CameraDay, Report, Shot

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MAX_OUTAGES = 40
"""Of more outages the longest are listed."""


def page(report: Report) -> str:
    """Return the report as one self-contained HTML file."""
    title = escape(words.title(report))
    style = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    parts = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f'<header><h1>{title}</h1><p class="dim">Local time, {words.offsets(report)}</p>',
        _figures(report),
        "</header><main>",
        _timeline(report),
        _best(report),
        _heat(report),
        _watching(report),
        _outages(report),
        _suppressed(report),
        _ends(report),
        "</main></body></html>",
    )
    return "\n".join(filter(None, parts))


def _figures(report: Report) -> str:
    days = report.cameras.values()
    moving_s = sum(day.moving_s for day in days)
    events, frames = report.events, sum(day.frames for day in days)
    figures = [
        (f"{events:,}", "event" if events == 1 else "events"),
        (f"{len(days):,}", "camera" if len(days) == 1 else "cameras"),
        (words.lasted(moving_s), "of motion"),
        (f"{frames:,}", "frame" if frames == 1 else "frames"),
        (words.size(sum(day.size for day in days)), "stored"),
    ]
    if report.service is not None and days:
        shares = [report.watched(day.account) for day in days]
        figures.append((f"{sum(shares) / len(shares):.1%}", "of the time watched"))
    return '<ul class="figures">' + "".join(f"<li><b>{n}</b>{what}</li>" for n, what in figures) + "</ul>"


def _timeline(report: Report) -> str:
    if not report.events:
        return "<section><h2>Nothing moved</h2><p>There are no events in this time.</p></section>"
    hours = report.marks[:-1]
    max_count = max(max(day.hours.values(), default=0) for day in report.cameras.values())
    head = []
    if report.is_day:
        head = [f'<th scope="col">{hour:%H}</th>' for hour in hours]
    else:
        place = 0
        while place < len(hours):
            count = sum(hour.date() == hours[place].date() for hour in hours)
            head.append(f'<th scope="colgroup" colspan="{count}">{hours[place]:%a} {hours[place].day}</th>')
            place += count
    rows = []
    for camera, day in report.cameras.items():
        cells = []
        for place, hour in enumerate(hours):
            count = day.hours[place]
            share = log1p(count) / log1p(max_count) * 0.9 if count else 0.04
            title = f"{camera}, {hour:%a %H:%M}: {counted(count, 'event')}"
            shown = str(count) if count and report.is_day else ""
            full = ' class="full"' if share > 0.5 else ""
            cells.append(f'<td{full} style="--share:{share:.2f}" title="{escape(title)}">{shown}</td>')
        rows.append(f'<tr><th scope="row">{escape(camera)}</th>{"".join(cells)}</tr>')
    kind = "hours" if report.is_day else "hours week"
    return (
        '<section><h2>Events by the hour</h2><div class="scroll">'
        f'<table class="{kind}"><thead><tr><th scope="col">Camera</th>{"".join(head)}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _best(report: Report) -> str:
    if not report.best:
        return ""
    cards = "".join(_card(shot) for shot in report.best)
    return f'<section><h2>Most motion</h2><div class="cards">{cards}</div></section>'


def _card(shot: Shot) -> str:
    event = shot.event
    at = event.started_at.astimezone()
    image = f'<img alt="{escape(event.camera)} at {at:%H:%M:%S}" src="{_data(shot.jpeg)}">'
    if shot.link is not None:
        image = f'<a href="{escape(shot.link)}" rel="noreferrer">{image}</a>'
    lasted = event.open_word if event.duration_s is None else words.lasted(event.duration_s)
    zones = f", {escape(', '.join(event.zones))}" if event.zones else ""
    return (
        f"<figure>{image}<figcaption><b>{escape(event.camera)}</b> {at:%a %H:%M:%S}<br>"
        f"{event.peak_score:.1%} of the image, {lasted}, {counted(event.frames, 'frame')}{zones}<br>"
        f'<code class="dim">{event.event_id}</code></figcaption></figure>'
    )


def _heat(report: Report) -> str:
    maps = "".join(
        f'<figure class="heat"><img alt="Where motion was at {escape(camera)}" src="{_data(day.heat)}">'
        f"<figcaption><b>{escape(camera)}</b> {counted(day.events, 'event')}{_zones(day)}"
        "</figcaption></figure>"
        for camera, day in report.cameras.items()
        if day.heat is not None
    )
    return f'<section><h2>Where it moved</h2><div class="cards">{maps}</div></section>' if maps else ""


def _zones(day: CameraDay) -> str:
    zones = ", ".join(f"{escape(zone)} {count}" for zone, count in day.zones.most_common(5))
    return f'<br><span class="dim">{zones}</span>' if zones else ""


def _watching(report: Report) -> str:
    """Return how long each camera was watched, and what it lost."""
    if report.service is None:
        return (
            "<section><h2>Watched, lost, suppressed</h2>"
            '<p class="dim">The bucket has no day log of this time: what was watched, lost and suppressed is'
            " not known.</p></section>"
        )
    rows = []
    for camera, day in report.cameras.items():
        account = day.account
        rows.append(
            (
                camera,
                f"{report.watched(account):.1%}",
                words.lasted(account.total.watched_s),
                words.paused(account),
                words.offline(account),
                f"{account.total.frames:,}",
                words.counts(words.LOST, account.total.lost),
            )
        )
    lost = words.counts(words.LOST, report.service.total.lost)
    ran = f"The service ran for {min(1.0, report.watched(report.service)):.1%} of the time. "
    after = (
        f"Lost after the spool had accepted them: {lost}." if lost else "It lost nothing that it accepted."
    )
    head = ("Camera", "Watched", "Time", "Paused", "Offline", "Frames judged", "Frames lost")
    return f"<section><h2>Watched and lost</h2>{_table(head, rows, kind='last')}<p>{ran}{after}</p></section>"


def _outages(report: Report) -> str:
    if report.service is None:
        return ""
    rows, left = words.outage_rows(report, MAX_OUTAGES)
    if not rows and not left:
        return "<section><h2>Outages</h2><p>None of a camera, the store or the broker.</p></section>"
    more = f'<p class="dim">And {left:,} shorter.</p>' if left else ""
    table = _table(("What", "Began", "Lasted", "Why"), rows, kind="texts")
    return f"<section><h2>Outages</h2>{table}{more}</section>"


def _suppressed(report: Report) -> str:
    """Return what moved and was no motion: how often, and in how many frames."""
    if report.service is None:
        return ""
    rows = []
    for camera, day in report.cameras.items():
        total = day.account.total
        cells = [
            f"{total.stretches[reason]:,} × ({total.suppressed[reason]:,})"
            if total.suppressed[reason]
            else ""
            for reason in words.SUPPRESSED
        ]
        rows.append((camera, *cells))
    changes = escape("; ".join(words.scene_changes(report)))
    scene = f"<p>Changes of the whole scene: {changes}.</p>" if changes else ""
    head = ("Camera", *(name.capitalize() for name in words.SUPPRESSED.values()))
    return (
        f"<section><h2>Suppressed: changed, and no motion</h2>{_table(head, rows)}{scene}"
        '<p class="dim">How often it happened, and in brackets in how many frames.</p></section>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "") -> str:
    """Return a table; the first column has the headings of the rows, an empty cell a dash."""
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell) or '–'}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    shown = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{shown}><thead><tr>{names}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _ends(report: Report) -> str:
    """Return how events ended, which are missing, and how many objects were unreadable."""
    unreadable = (
        f"<p>{counted(report.unreadable, 'object')} could not be read.</p>" if report.unreadable else ""
    )
    head = ("Camera", *(name.capitalize() for name in words.ENDS))
    table = _table(head, words.end_rows(report)) if report.events else ""
    if not table and not unreadable:
        return ""
    return (
        f"<section><h2>How events ended, and what is missing</h2>{table}"
        '<p class="dim">Not in the bucket: events whose numbers are missing between others; they were lost,'
        f" deleted, or wait in a spool.</p>{unreadable}</section>"
    )


def _data(jpeg: bytes | None) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg or b'').decode()}"
