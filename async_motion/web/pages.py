"""The pages: server-rendered, complete without script. The templates escape every text.

All pages lie directly below the base (`events`, `event?id=…`), so that every URL in them is relative and
valid behind any prefix.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import Any, Final
from urllib.parse import parse_qsl

import jinja2
from aiohttp import web

from async_motion.errors import SettingsError
from async_motion.retrieval import Event
from async_motion.web import event_pages
from async_motion.web.api import Api, models
from async_motion.web.api.routing import VISITOR, ApiError, read_body
from async_motion.web.auth import Guard, Role, TooManyWrong
from async_motion.web.site import Site
from async_motion.web.state import PARTS, problem_of
from async_motion.web.upkeep import LogLine, SetAside

PAGE_NAME: Final = re.compile(r"(?:[a-z]{1,16})?(?:\?[\x21-\x7e]{0,512})?")
"""A target to which a login may redirect: one of our own pages."""

MAX_FORM: Final = 8 * 1024
MAX_FIELDS: Final = 8
"""Maximum bytes and fields of the login form."""

TABS: Final = (
    ("", "Live"),
    ("events", "Events"),
    ("zones", "Zones"),
    ("settings", "Settings"),
    ("health", "Health"),
)

CONTENT_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}


class Static:
    """The files under `static/`, read once. Their URLs carry `mark`, a digest of all content."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str]] = {}
        for name, content in _read(resources.files("async_motion.web") / "static"):
            suffix = name[name.rfind(".") :]
            if suffix in CONTENT_TYPES:
                self._files[name] = (content, CONTENT_TYPES[suffix])
        everything = b"".join(name.encode() + content for name, (content, _) in sorted(self._files.items()))
        self.mark = hashlib.sha256(everything).hexdigest()[:10]

    async def serve(self, request: web.Request) -> web.Response:
        """Answer with a file. Modules import each other without the mark, so browsers must revalidate."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound(text="there is no such file\n")
        content, kind = found
        etag = f'"{self.mark}"'
        headers = {"Cache-Control": "public, no-cache", "ETag": etag}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8" if kind[:4] == "text" else None,
                            headers=headers)  # fmt: skip


def _read(folder: Any, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    for one in folder.iterdir():
        if one.is_dir():
            yield from _read(one, f"{prefix}{one.name}/")
        else:
            yield f"{prefix}{one.name}", one.read_bytes()


class Pages:
    """Renders the pages of one site from the values of its API."""

    def __init__(self, site: Site, api: Api, guard: Guard) -> None:
        self._site = site
        self._api = api
        self._guard = guard
        self._static = Static()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("async_motion.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "ago": lambda at: ago(at, datetime.now(UTC)),
            "duration": duration,
            "local": local,
            "size": size,
            "percent": percent,
        }

    def install(self, app: web.Application) -> None:
        """Add the pages to the application."""
        app.router.add_get("/", self._live)
        app.router.add_get("/camera", self._camera)
        app.router.add_get("/events", self._events)
        app.router.add_get("/event", self._event)
        app.router.add_get("/zones", self._zones)
        app.router.add_get("/settings", self._settings)
        app.router.add_get("/health", self._health)
        app.router.add_get("/login", self._login)
        app.router.add_post("/login", self._log_in)
        app.router.add_post("/logout", self._log_out)
        app.router.add_get("/static/{name:[a-z0-9_/.-]+}", self._static.serve)

    def compile(self) -> None:
        """Compile all templates, which takes a first request a fifth of a second. Blocks."""
        for name in self._templates.list_templates(extensions=["html"]):
            self._templates.get_template(name)

    def render(
        self, request: web.Request, template: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        """Return a page rendered from a template."""
        visitor = request.get(VISITOR)
        text = self._templates.get_template(template).render(
            instance=self._site.instance if visitor is not None and visitor.role else "async_motion",
            version=self._site.version,
            tabs=TABS,
            here=request.path.strip("/"),
            admin=visitor is not None and visitor.role >= Role.ADMIN,
            visitor=visitor,
            mark=self._static.mark,
            offset=offset(datetime.now(UTC)),
            **values,
        )
        return web.Response(text=text, content_type="text/html", charset="utf-8", status=status)

    def failure(self, request: web.Request, status: int, words: str) -> web.Response:
        """Return the error page."""
        return self.render(request, "failure.html", status=status, words=words, code=status)

    # ---- pages ----

    async def _live(self, request: web.Request) -> web.Response:
        return self.render(request, "live.html", cameras=self._api.cameras.cameras())

    async def _camera(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        camera = self._api.cameras.camera(name)
        others = [one for one in self._api.cameras.cameras() if one.name != name]
        shapes = {zone: values.polygon for zone, values in camera.zones.items()}
        return self.render(request, "camera.html", camera=camera, shapes=shapes, others=others)

    async def _events(self, request: web.Request) -> web.Response:
        given = {key: request.query.get(key, "") for key in ("camera", "zone", "percent", "min_duration")}
        given["min_score"] = ""
        today = datetime.now().astimezone().date()
        query, day, hour, before = _chosen(request.query, given)
        note = problem = ""
        found: list[Event] = []
        try:
            if day is None:
                day = today
                found = await self._api.events.of_day(day, query)
                if not found and (
                    last := await self._api.events.newest(query.model_copy(update={"limit": 1}))
                ):
                    day = last[0].started_at.astimezone().date()
                    note = "Nothing today. These are the newest events."
            if not found:
                found = await self._api.events.of_day(day, query)
        except ApiError as exc:
            problem = exc.problem.error
        day = day or today
        facts = self._site.cameras()
        titles = {name: one.title for name, one in facts.items()}
        shown = found if hour is None else event_pages.in_hour(found, hour)
        behind = [event for event in shown if before is None or event.event_id < before]
        cards = behind[: event_pages.PAGE]
        if cards:
            self._api.events.expect(cards[: event_pages.EXPECTED], event_pages.THUMBNAIL)
        rows = {name: title for name, title in titles.items() if query.camera in (None, name)}
        counts = Counter(event.started_at.astimezone().hour for event in found)

        def link(**changes: object) -> str:
            values: dict[str, object] = {"day": day, **given, "hour": hour, "before": before, **changes}
            return event_pages.address("events", **values)

        filters = [given["camera"] and titles.get(given["camera"], given["camera"]), given["zone"],
                   given["percent"] and f"from {given['percent']} %",
                   given["min_duration"] and f"from {given['min_duration']} s"]  # fmt: skip
        return self.render(
            request, "events.html", words=event_pages.day_words(day, today), day=day, today=today, hour=hour,
            earlier=day - timedelta(days=1), later=day + timedelta(days=1) if day < today else None,
            count=len(shown), note=note, problem=problem, given=given, titles=titles, link=link,
            rows=event_pages.timeline(found, rows), rows_first=event_pages.ROWS,
            hours=[{"hour": each, "count": counts[each]} for each in range(24)],
            zones=sorted({zone for one in facts.values() for zone in one.zones}),
            cards=[event_pages.card(event, titles) for event in cards], address=event_pages.address,
            eager=event_pages.EAGER, thumbnail=event_pages.THUMBNAIL,
            older=cards[-1].event_id if len(behind) > len(cards) else None,
            filtered=", ".join(filter(None, filters)), fresh=day == today and before is None and hour is None,
        )  # fmt: skip

    async def _event(self, request: web.Request) -> web.Response:
        camera, event_id = request.query.get("camera", ""), request.query.get("id", "")
        event, frames = await self._api.events.event(camera, event_id)
        facts = self._site.cameras().get(camera)
        day = event.started_at.astimezone().date()
        first = next((frame for frame in frames if frame.boxes), None)
        began = "No frame has boxes."
        if first is not None:
            where = f" in {', '.join(first.zones)}" if first.zones else ""
            began = f"{percent(first.score)} of the image moved{where}."
        return self.render(
            request, "event.html", event=event, title=facts.title if facts else camera, day=day,
            words=event_pages.day_words(day, datetime.now().astimezone().date()),
            time=event_pages.when(event.started_at), length=event_pages.lasted(event),
            strip=event_pages.spread(frames), best=event.best, began=began, ended=event_pages.ended(event),
            address=event_pages.address, event_offset=offset(event.started_at),
        )  # fmt: skip

    async def _zones(self, request: web.Request) -> web.Response:
        _admin(request)
        cameras = self._api.cameras.cameras()
        if not cameras:
            raise ApiError(404, "there is no camera yet")
        name = request.query.get("camera", cameras[0].name)
        camera = self._api.cameras.camera(name)
        facts = camera.model_dump(include={"zones", "masks", "min_area", "min_area_far", "horizon"})
        version, unread = await self._file(name)
        # Saving is refused if the file is another by then: it may hold shapes that this page never showed.
        facts["version"] = "" if unread else version
        return self.render(request, "zones.html", camera=camera, cameras=cameras, facts=facts, unread=unread)

    async def _file(self, camera: str) -> tuple[str, bool]:
        """Return the settings file's version, and whether it sets other shapes than those in force.

        A version that is blank, as the file cannot be read, makes saving be refused.
        """
        try:
            current = await self._api.settings.editor.current()
        except (SettingsError, ApiError):
            return "", False
        return current.version, camera in current.unread

    async def _settings(self, request: web.Request) -> web.Response:
        _admin(request)
        editor = self._api.settings.editor
        try:
            current = await editor.current()
        except SettingsError as exc:
            raise ApiError(422, "; ".join(exc.problems)) from exc
        camera = request.query.get("camera", "")
        if camera and camera not in current.cameras:
            raise ApiError(404, "there is no such camera")
        titles = {name: facts.title for name, facts in self._site.cameras().items()}
        groups = event_pages.grouped(editor.fields(), current, camera)
        return self.render(
            request, "settings.html", current=current, camera=camera, new="new" in request.query,
            titles=titles, groups=groups,
        )  # fmt: skip

    async def _health(self, request: web.Request) -> web.Response:
        state = self._site.snapshot()
        aside: list[SetAside] = []
        warnings: Sequence[LogLine] = ()
        trouble = ""
        if self._site.upkeep is not None and request[VISITOR].role >= Role.ADMIN:
            warnings = self._site.upkeep.warnings()
            try:
                aside = await self._api.upkeep.aside() if _set_aside(state) else []
            except ApiError as exc:
                trouble = exc.problem.error
        parts = {part: (state.get(part) is not None, problem_of(state.get(part))) for part in PARTS}
        return self.render(
            request, "health.html", state=state, parts=parts, spool=state.get("spool"),
            aside=aside, trouble=trouble, warnings=list(warnings)[::-1],
            certificates=state.get("certificates") or {},
            titles={name: facts.title for name, facts in self._site.cameras().items()},
            cameras=state.get("cameras") or {}, running=since(state.get("started_at"), datetime.now(UTC)),
        )  # fmt: skip

    # ---- logging in ----

    async def _login(self, request: web.Request) -> web.Response:
        to = _page(request.query.get("to", ""))
        if request[VISITOR].role > Role.NONE and "token" not in request.query:
            raise web.HTTPSeeOther(to or "./")
        return self.ask_token(request, to=to, status=200)

    def ask_token(self, request: web.Request, *, to: str, status: int = 401, words: str = "") -> web.Response:
        """Return the login form."""
        return self.render(request, "login.html", status=status, to=to, words=words)

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await read_body(request, MAX_FORM)
        try:
            form = dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
        except ValueError:
            raise ApiError(400, "the form cannot be read") from None
        return self.exchange(request, form.get("token", ""), form.get("to", ""))

    def exchange(self, request: web.Request, token: str, to: str) -> web.Response:
        """Exchange a token for the cookie and redirect to the page `to`; show the form for a wrong one."""
        visitor, to = request[VISITOR], _page(to)
        if not self._guard.wants_token:
            raise web.HTTPSeeOther(to or "./")
        try:
            role = self._guard.role_of(token.strip(), visitor.address)
        except TooManyWrong as exc:
            wait = max(1, round(exc.retry_after_s))
            words = f"Too many wrong tokens from this address. Try again in {duration(wait)}."
            response = self.ask_token(request, to=to, status=429, words=words)
            response.headers["Retry-After"] = str(wait)
            return response
        if role is Role.NONE:
            return self.ask_token(request, to=to, words="That is not one of the tokens.")
        response = web.Response(status=303, headers={"Location": to or "./"})
        self._guard.set_cookie(response, self._guard.new_cookie(role), secure=visitor.secure)
        return response

    async def _log_out(self, request: web.Request) -> web.Response:
        self._guard.log_out(request)
        response = web.Response(status=303, headers={"Location": "login"})
        self._guard.set_cookie(response, "", secure=request[VISITOR].secure)
        return response


def _set_aside(state: Mapping[str, Any]) -> bool:
    spool = state.get("spool")
    return isinstance(spool, Mapping) and bool(spool.get("set_aside"))


def _admin(request: web.Request) -> None:
    """Raise ApiError (403) unless the visitor is an admin."""
    if request[VISITOR].role < Role.ADMIN:
        raise ApiError(403, "expected the role admin: a viewer changes nothing")


def _chosen(
    query: Mapping[str, str], given: Mapping[str, str]
) -> tuple[models.EventsQuery, date | None, int | None, str | None]:
    """Parse the filters of the events page: (query, day, hour, before). Raises ApiError (400)."""
    wanted: dict[str, object] = {
        "camera": given["camera"] or None,
        "zone": given["zone"] or None,
        "min_duration": given["min_duration"].replace(",", ".") or 0,
        "day": query.get("day") or None,
        "before": query.get("before") or None,
    }
    try:
        wanted["min_score"] = float(given["percent"].replace(",", ".")) / 100 if given["percent"] else 0.0
        hour = int(query["hour"]) if query.get("hour") else None
        chosen = models.EventsQuery.model_validate(wanted)
    except ValueError:  # pydantic's errors included
        raise ApiError(400, "the filter cannot be read: expected a day, numbers and names") from None
    if hour is not None and not 0 <= hour < 24:
        raise ApiError(400, "expected an hour from 0 to 23")
    return chosen, chosen.day, hour, chosen.before


def _page(to: str) -> str:
    """Return the target of a login's redirect if it is one of our pages, else an empty text."""
    return to if PAGE_NAME.fullmatch(to) else ""


def offset(at: datetime) -> int:
    """Return how far the service's time zone is ahead of UTC at a moment, in minutes."""
    return round((at.astimezone().utcoffset() or timedelta()).total_seconds() / 60)


def local(at: object) -> str:
    """Return an ISO date as local date and time; the text itself if it is none."""
    try:
        return f"{datetime.fromisoformat(str(at)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return str(at)


_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def since(start: object, now: datetime) -> str:
    """Return the time since an ISO date as text."""
    try:
        return duration(max(0.0, (now - datetime.fromisoformat(str(start))).total_seconds()))
    except (ValueError, TypeError):
        return "an unknown time"


def ago(at: object, now: datetime) -> str:
    """Return how long ago an ISO date was, as text."""
    words = since(at, now)
    return "just now" if words.endswith("ms") else f"{words} ago"


def duration(value: object) -> str:
    """Return a duration in seconds as text with a unit, ms to days."""
    seconds = float(value) if isinstance(value, int | float) else 0.0
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for name, length, next_length in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < next_length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def size(value: object) -> str:
    """Return a size in bytes as text with a binary unit."""
    whole = int(value) if isinstance(value, int | float) else 0
    power = min(4, max(0, whole.bit_length() - 1) // 10)
    amount = whole / 1024**power
    return f"{amount:.0f} {_UNITS[power]}" if amount >= 100 else f"{amount:.3g} {_UNITS[power]}"


def percent(share: object) -> str:
    """Return a share (0..1) in percent, with three significant digits."""
    value = float(share) * 100 if isinstance(share, int | float) else 0.0
    return f"{value:.3g} %"
