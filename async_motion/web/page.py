"""The status page: one HTML document, no scripts, made anew at each request. Every text in it is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from async_motion.web.state import problem_of

REFRESH_S = 5
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

_STYLE = """
:root { color-scheme: light dark;
  --line: #d8dde3; --dim: #66707c; --good: #1a7f4b; --bad: #c4342d; --warn: #9a6700 }
@media (prefers-color-scheme: dark) {
  :root { --line: #333b45; --dim: #98a2ae; --good: #4cc38a; --bad: #ff8078; --warn: #e0b050 } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
p { margin: .2rem 0 } small, .dim { color: var(--dim) }
.parts { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem }
.parts { margin-top: 1rem }
.part { border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .9rem }
.part b { display: block } .scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .7rem; text-align: right; white-space: nowrap }
th { color: var(--dim); font-weight: 500 }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
td:nth-child(2) { white-space: normal; min-width: 12rem }
.good { color: var(--good) } .bad { color: var(--bad) } .warn { color: var(--warn) }
meter { width: 100%; height: .7rem }
"""


def render(state: Mapping[str, Any], now: datetime | None = None) -> str:
    """Return the page for a state as `Snapshot` gives it. `now` is aware."""
    now = now or datetime.now(UTC)
    instance = escape(str(state.get("instance", "")))
    version = escape(str(state.get("version", "")))
    cameras = state.get("cameras") or {}
    rows = "".join(_camera(name, camera, now) for name, camera in cameras.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_S}">
<title>{instance} · async_motion</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{instance}</h1>
<p class="dim">async_motion {version}, running for {_since(state.get("started_at"), now)}</p>
<div class="parts">
{_part("Store", state.get("store"))}
{_part("Broker", state.get("broker"))}
{_spool(state.get("spool"))}
</div>
<h2>Cameras</h2>
<div class="scroll"><table>
<thead><tr><th>Camera</th><th>State</th><th>Last motion</th><th>Events today</th><th>Frames/s</th>
<th>Stored</th><th>Dropped</th><th>Upload</th></tr></thead>
<tbody>{rows or '<tr><td colspan="8" class="dim">none</td></tr>'}</tbody>
</table></div>
<p><small>{escape(f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S}")} UTC, every {REFRESH_S} s</small></p>
</body>
</html>
"""


def _part(title: str, part: object) -> str:
    problem = problem_of(part)
    kind, words = ("bad", problem) if problem else ("good", "working")
    if part is None:
        kind, words = "dim", "not known"
    return f'<div class="part"><b>{title}</b><span class="{kind}">{escape(words)}</span></div>'


def _spool(spool: object) -> str:
    if not isinstance(spool, Mapping) or problem_of(spool):
        return _part("Spool", spool)
    records, used, most = (_int(spool.get(key)) for key in ("records", "bytes", "max_bytes"))
    words = f"{records} {'frame waits' if records == 1 else 'frames wait'}" if records else "nothing waits"
    if records:
        words += f", the oldest for {_duration(spool.get('oldest_age_s'))}"
    aside = _int(spool.get("set_aside"))
    more = f'<p class="warn">{aside} set aside: async-motion spool says why</p>' if aside else ""
    meter = (
        f'<meter min="0" max="{most}" high="{most * 0.8:.0f}" value="{min(used, most)}"></meter>'
        if most
        else ""
    )
    bound = f" of {_size(most)}" if most else ""
    return (
        f'<div class="part"><b>Spool</b>{escape(words)}{meter}<small>{_size(used)}{bound}</small>{more}</div>'
    )


def _camera(name: str, camera: Mapping[str, Any], now: datetime) -> str:
    status, problem = str(camera.get("status", "")), camera.get("problem")
    kind = "bad" if status == "offline" else "warn" if problem else "good" if status == "watching" else "dim"
    words = f"{status}: {problem}" if problem else status
    dropped = camera.get("dropped_total")
    last = camera.get("last_motion")
    cells: list[str] = [
        escape(str(name)),
        f'<span class="{kind}">{escape(words)}</span>',
        f"{_since(last, now)} ago" if last else "–",
        _plain(camera.get("events_today")),
        _plain(camera.get("fps")),
        _plain(camera.get("stored")),
        f'<span class="warn">{_plain(dropped)}</span>' if dropped else _plain(dropped),
        _or_dash(camera.get("upload_latency_s"), _duration),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _int(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _plain(value: object) -> str:
    return "–" if value is None else escape(str(value))


def _or_dash(value: object, show: Callable[[object], str]) -> str:
    return "–" if value is None else show(value)


def _since(start: object, now: datetime) -> str:
    """Return the time since an ISO date as people say it."""
    try:
        return _duration(max(0.0, (now - datetime.fromisoformat(str(start))).total_seconds()))
    except (ValueError, TypeError):
        return "an unknown time"


def _duration(value: object) -> str:
    seconds = float(value) if isinstance(value, int | float) else 0.0
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for name, length, next_length in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < next_length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def _size(value: int) -> str:
    power = min(4, max(0, value.bit_length() - 1) // 10)
    size = value / 1024**power
    return f"{size:.0f} {_UNITS[power]}" if size >= 100 else f"{size:.3g} {_UNITS[power]}"
