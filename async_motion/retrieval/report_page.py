"""Render a report as one HTML file: no script, no requests; for light and dark, phone and print."""

from __future__ import annotations

import base64
from datetime import datetime
from html import escape
from importlib import resources
from math import log1p

from async_motion.retrieval.report import CameraDay, Report, Shot

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MAX_DAY_MARKS = 26
"""The number of hour marks, with the end, of the longest day (25 hours)."""


def page(report: Report) -> str:
    """Return the report as one self-contained HTML file."""
    first, last = report.marks[0], report.marks[-1]
    is_day = len(report.marks) <= MAX_DAY_MARKS
    title = escape(f"Motion at {report.instance}, {_span(first, last, is_day=is_day)}")
    style = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    offsets = " to ".join(dict.fromkeys(f"UTC{mark:%z}" for mark in (first, last)))
    parts = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{title}</title><style>{style}</style></head><body>",
        f'<header><h1>{title}</h1><p class="dim">Local time, {offsets}</p>',
        _figures(report),
        "</header><main>",
        _timeline(report, is_day=is_day),
        _best(report),
        _heat(report),
        _ends(report),
        "</main></body></html>",
    )
    return "\n".join(filter(None, parts))


def _span(first: datetime, last: datetime, *, is_day: bool) -> str:
    if is_day:
        return f"{first:%A} {first.day} {first:%B %Y}"
    return f"{first.day} {first:%B %Y} to {last.day} {last:%B %Y}"


def _figures(report: Report) -> str:
    days = report.cameras.values()
    moving = sum(day.moving_s for day in days) / 60
    figures = (
        (f"{sum(day.events for day in days):,}", "events"),
        (f"{len(report.cameras):,}", "cameras"),
        (f"{moving:,.0f} min", "of motion"),
        (f"{sum(day.frames for day in days):,}", "frames"),
        (f"{sum(day.size for day in days) / 1e6:,.0f} MB", "stored"),
    )
    return '<ul class="figures">' + "".join(f"<li><b>{n}</b>{what}</li>" for n, what in figures) + "</ul>"


def _timeline(report: Report, *, is_day: bool) -> str:
    if not report.cameras:
        return "<section><h2>Nothing moved</h2><p>There are no events in this time.</p></section>"
    hours = report.marks[:-1]
    most = max(max(day.hours.values(), default=0) for day in report.cameras.values())
    head = []
    if is_day:
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
            share = log1p(count) / log1p(most) * 0.9 if count else 0.04
            words = f"{camera}, {hour:%a %H:%M}: {count} events"
            shown = str(count) if count and is_day else ""
            full = ' class="full"' if share > 0.5 else ""
            cells.append(f'<td{full} style="--share:{share:.2f}" title="{escape(words)}">{shown}</td>')
        rows.append(f'<tr><th scope="row">{escape(camera)}</th>{"".join(cells)}</tr>')
    kind = "hours" if is_day else "hours week"
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
    lasted = "ongoing" if event.duration_s is None else f"{event.duration_s:.0f} s"
    zones = f", {escape(', '.join(event.zones))}" if event.zones else ""
    return (
        f"<figure>{image}<figcaption><b>{escape(event.camera)}</b> {at:%a %H:%M:%S}<br>"
        f"{event.peak_score:.1%} of the image, {lasted}, {event.frames} frames{zones}<br>"
        f'<code class="dim">{event.event_id}</code></figcaption></figure>'
    )


def _heat(report: Report) -> str:
    maps = "".join(
        f'<figure class="heat"><img alt="Where motion was at {escape(camera)}" src="{_data(day.heat)}">'
        f"<figcaption><b>{escape(camera)}</b> {day.events} events{_zones(day)}</figcaption></figure>"
        for camera, day in report.cameras.items()
        if day.heat is not None
    )
    return f'<section><h2>Where it moved</h2><div class="cards">{maps}</div></section>' if maps else ""


def _zones(day: CameraDay) -> str:
    zones = ", ".join(f"{escape(zone)} {count}" for zone, count in day.zones.most_common(5))
    return f'<br><span class="dim">{zones}</span>' if zones else ""


def _ends(report: Report) -> str:
    """Return how events ended, which are missing, and how many objects were unreadable."""
    if not report.cameras:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(camera)}</th>'
        + "".join(
            f"<td>{number or '–'}</td>"
            for number in (
                day.reasons["quiet"],
                day.reasons["max_length"],
                day.reasons["camera_lost"],
                day.reasons["interrupted"] + day.reasons["worker_lost"] + day.reasons["stopped"],
                day.open,
                day.lost_events,
            )
        )
        + "</tr>"
        for camera, day in report.cameras.items()
    )
    head = (
        "Quiet again",
        "Cut for length",
        "Camera lost",
        "Service stopped",
        "Not ended",
        "Not in the bucket",
    )
    unreadable = f"<p>{report.unreadable} objects could not be read.</p>" if report.unreadable else ""
    return (
        '<section><h2>How events ended, and what is missing</h2><div class="scroll"><table><thead><tr>'
        f'<th scope="col">Camera</th>{"".join(f"<th scope=col>{name}</th>" for name in head)}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="dim">Not in the bucket: events whose numbers are missing between others; they were lost,'
        f" deleted, or wait in a spool.</p>{unreadable}</section>"
    )


def _data(jpeg: bytes | None) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg or b'').decode()}"
