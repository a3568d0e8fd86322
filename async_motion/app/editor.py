"""Change a running service's settings from the page or by SIGHUP: read, validate, write, reload.

    request ──▶ queue ──▶ `FileEditor.run`: one change at a time, each to its end ──▶ answer

A request may be cancelled: the page restarts, a browser goes away. The change that it has asked for is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from async_motion.app import units
from async_motion.app.reload import Plan, Reloaded, plan_of
from async_motion.core.model import Frame
from async_motion.core.names import redact_url
from async_motion.errors import AsyncMotionError, CameraUnavailable, SettingsConflict, SettingsError
from async_motion.jpeg import encode
from async_motion.settings import Settings, camera_of, detection_of, find, load, load_text, shipped
from async_motion.settings import form as forms
from async_motion.settings.document import Document
from async_motion.settings.places import dotted
from async_motion.settings.writing import Change, edited, version_of, write
from async_motion.web import editor as web

log = logging.getLogger(__name__)

Apply = Callable[[Settings, Plan], Awaitable[None]]
"""Applies other settings to the service."""

PROBE_WIDTH = 640
SHAPES = ("zones", "masks", "min_area", "min_area_far", "horizon")
"""The keys of a camera's detection that the page of zones shows."""
OWN_FILE = Path("config/processor/variables.yaml")
"""The file that is written if the settings were read from the file in the package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """Where the settings come from: the arguments of `load`."""

    config: Path | None
    env: Mapping[str, str]

    def load(self) -> Settings:
        """Return the settings as they are now. Raises SettingsError."""
        return load(self.config, self.env)

    @property
    def read(self) -> Path:
        """The file that is read."""
        return find(self.config, self.env)

    @property
    def written(self) -> Path:
        """The file that is written: never the one in the package."""
        return OWN_FILE if self.read == shipped() else self.read


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Awaitable[Reloaded]]
    done: asyncio.Future[Reloaded]

    def fail(self, error: AsyncMotionError) -> None:
        if not self.done.done():  # its request was cancelled
            self.done.set_exception(error)


class FileEditor:
    """Changes one service's settings through `apply`, while `run` runs; changes wait until it does."""

    def __init__(
        self,
        file: SettingsFile,
        settings: Settings,
        apply: Apply,
        *,
        refusal: Callable[[], SettingsError | None] = lambda: None,
    ) -> None:
        """`refusal` returns why no change can be applied now, None if it can: then no file is written."""
        self._file = file
        self._apply = apply
        self._refusal = refusal
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._ended = False
        self.settings = settings
        """The settings in force."""
        self.problem: str | None = None
        """Why the last reload changed nothing."""

    async def run(self) -> None:
        """Apply what is requested, one change at a time, until cancelled; then refuse."""
        try:
            while True:
                await self._do(await self._jobs.get())
        finally:
            self._ended = True
            while not self._jobs.empty():
                self._jobs.get_nowait().fail(stopping())

    async def _do(self, job: _Job) -> None:
        try:
            reloaded = await job.work()
        except AsyncMotionError as exc:
            job.fail(exc)
        except BaseException:
            job.fail(stopping())
            raise
        else:
            if not job.done.done():
                job.done.set_result(reloaded)

    async def _request(self, work: Callable[[], Awaitable[Reloaded]]) -> web.EditOutcome:
        if self._ended:
            raise stopping()
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        return _outcome(await job.done)

    # ---- reloading ----

    async def reload(self) -> web.EditOutcome:
        """Read the file again and apply it; with problems, nothing changes."""
        return await self._request(self._reload)

    async def _reload(self) -> Reloaded:
        try:
            settings = await asyncio.to_thread(self._file.load)
        except SettingsError as exc:
            self.problem = exc.problems[0] if exc.problems else str(exc)
            for problem in exc.problems:
                log.error("reload: %s", problem)
            log.error("reload: the settings are not valid: nothing was changed")
            return Reloaded(problems=tuple(exc.problems))
        plan = plan_of(self.settings, settings)
        for line in plan.words():
            log.info("reload: %s", line)
        if not plan.is_nothing:
            try:
                await self._apply(settings, plan)
            except AsyncMotionError as exc:
                self.problem = str(exc)
                log.error("reload: %s: nothing was changed", exc)
                return Reloaded(problems=(str(exc),))
        self.problem = None
        self.settings = settings
        return Reloaded(done=tuple(plan.words()))

    # ---- the page ----

    def fields(self) -> list[web.EditorField]:
        """Return every key as a form shows it."""
        return [
            web.EditorField(
                place=field.place, kind=field.kind, choices=field.choices, default=field.default,
                hint=field.hint, help=field.help, required=field.required,
            )
            for field in forms.fields()
        ]  # fmt: skip

    async def current(self) -> web.Current:
        """Return the file's values as written; for secrets, only that they are set."""
        return await asyncio.to_thread(self._current)

    def _current(self) -> web.Current:
        path = self._file.read
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be read ({exc.strerror})") from exc
        document = Document()
        document.parse(path, content)
        document.overlay(self._file.env)
        values: dict[str, str] = {}
        secrets: dict[str, str] = {}
        names = list(self.settings.cameras)
        for field in forms.fields():
            for place in _places(field.place, names):
                value = _value_at(document.data, place)
                if value is None:
                    continue
                key = dotted(place)
                if field.kind == "secret":
                    secrets[key] = _harmless(place, str(value))
                elif field.kind != "shape":
                    values[key] = forms.as_written(value)
        return web.Current(
            version=version_of(content),
            file=str(self._file.written),
            values=values,
            secrets=secrets,
            environment={dotted(place): name for place, name in document.variables.items()},
            cameras=names,
            problem=self.problem,
            unread=frozenset(name for name in names if not self._is_in_force(document.data, name)),
        )

    def _is_in_force(self, data: Mapping[str, Any], camera: str) -> bool:
        """Return whether the file's plain data has the shapes and areas of a camera that are in force."""
        written = _value_at(data, ("cameras", camera, "detect"))
        if isinstance(written, Mapping):
            written = {key: value for key, value in written.items() if key in SHAPES}
        found, detect = detection_of(written), self.settings.cameras[camera].detect
        return found is not None and all(getattr(found, key) == getattr(detect, key) for key in SHAPES)

    async def save(self, version: str, changes: Sequence[web.Edit], *, dry_run: bool) -> web.EditOutcome:
        """Write changes and apply them; with `dry_run`, only return what they would do.

        If they cannot be applied, the file is written back. Raises SettingsConflict if the file is no longer
        at `version`; SettingsError with every problem.
        """
        before, content, settings = await asyncio.to_thread(self._draft, version, changes)
        if dry_run:
            reloaded = Reloaded(done=tuple(plan_of(self.settings, settings).words()))
            return replace(_outcome(reloaded), version=version)
        outcome = await self._request(partial(self._save, before, content))
        return replace(outcome, version=version_of(content))

    async def _save(self, before: bytes, content: bytes) -> Reloaded:
        """Write the content and apply it, else write back what was `before`."""
        if (refusal := self._refusal()) is not None:
            raise refusal
        problem = self.problem
        await asyncio.to_thread(write, self._file.written, content, version=version_of(before))
        log.info("settings: %s was changed from the page", self._file.written)
        try:
            reloaded = await self._reload()
        except Exception:
            await self._write_back(before, content)
            raise
        if reloaded.problems:
            left = await self._write_back(before, content)
            if not left:
                self.problem = problem
            raise SettingsError(*reloaded.problems, *left)
        return reloaded

    async def _write_back(self, before: bytes, content: bytes) -> list[str]:
        """Replace `content`, which cannot be applied; return what is left to say if that fails."""
        file = self._file.written
        try:
            await asyncio.to_thread(write, file, before, version=version_of(content), keep=False)
        except SettingsError as exc:
            log.error("settings: %s holds a change that cannot be applied: %s", file, exc)
            return [f"{file} holds the change all the same: {exc}"]
        log.warning("settings: %s is as before: the change cannot be applied", file)
        return []

    def _draft(self, version: str, changes: Sequence[web.Edit]) -> tuple[bytes, bytes, Settings]:
        """Return the file's content, the changed one and its settings.

        Raises SettingsConflict, SettingsError.
        """
        path = self._file.read
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be read ({exc.strerror})") from exc
        if version_of(content) != version:
            raise SettingsConflict(f"{path} has changed in the meantime: read it again")
        new = edited(content, path, [_change(change) for change in changes])
        return content, new, load_text(new, path, self._file.env)

    async def probe(self, source: str) -> bytes:
        """Return a JPEG, at most `PROBE_WIDTH` pixels wide, from a camera that need not be in the settings.

        Raises SettingsError, CameraUnavailable.
        """
        camera = camera_of(source)
        opened = units.build_source("probe", camera)
        frames = opened.frames()
        limit = camera.capture.open_timeout + camera.capture.stall_timeout
        try:
            async with asyncio.timeout(limit):
                async for frame in frames:
                    return await asyncio.to_thread(_small, frame)
        except TimeoutError:
            raise CameraUnavailable(f"no frame within {limit:.0f} s") from None
        finally:
            await opened.aclose()
        raise CameraUnavailable("it ended before its first frame")


def stopping() -> SettingsConflict:
    """Return the error for a change that comes too late."""
    return SettingsConflict("the service is stopping: look at the settings after its next start")


def _small(frame: Frame) -> bytes:
    return encode(frame.bgr(), 75, PROBE_WIDTH)[0]


def _change(change: web.Edit) -> Change:
    place = tuple(change.place)
    return Change(place=place, value=forms.as_yaml(place, change.value))


def _places(place: tuple[str, ...], cameras: Sequence[str]) -> list[tuple[str, ...]]:
    if place[:2] != forms.CAMERA:
        return [place]
    return [("cameras", name, *place[2:]) for name in cameras]


def _value_at(data: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    found: Any = data
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _harmless(place: tuple[str, ...], value: str) -> str:
    """Return what may be shown of a secret: scheme and host of a camera's address, otherwise nothing."""
    return redact_url(value) if place[-1] in ("source", "record_source") else ""


def _outcome(reloaded: Reloaded) -> web.EditOutcome:
    return web.EditOutcome(done=list(reloaded.done), problems=list(reloaded.problems))
