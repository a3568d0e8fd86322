"""The API of the settings: forms, values without secrets, changes, a probe, a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from async_motion.errors import CameraUnavailable, ImageError, SettingsConflict, SettingsError
from async_motion.web import editor as editing
from async_motion.web.api import judging, models
from async_motion.web.api.events import EventsApi, summary
from async_motion.web.api.routing import JPEG, ApiError, Call, Route
from async_motion.web.auth import Role
from async_motion.web.site import Site

PROBES_AT_ONCE = 2
JUDGED_EVENTS = 40


class SettingsApi:
    """The routes about the settings."""

    def __init__(self, site: Site, events: EventsApi) -> None:
        self._site = site
        self._events = events
        self._probes = asyncio.Semaphore(PROBES_AT_ONCE)

    def routes(self) -> Iterable[Route]:
        """Return the routes."""
        yield Route(
            method="GET", path="/settings",
            summary="The settings' forms and values; of a secret only whether it is set.",
            handler=self.get_settings, answer=models.SettingsContent, role=Role.ADMIN, errors=(422, 503),
        )  # fmt: skip
        yield Route(
            method="PUT", path="/settings", summary="Change settings: check, write and apply them.",
            handler=self.put_settings, answer=models.Saved, body=models.SettingsBody, role=Role.ADMIN,
            errors=(409, 422, 503), max_body=512 * 1024,
        )  # fmt: skip
        yield Route(
            method="POST", path="/settings/reload", summary="Read the settings' file again.",
            handler=self.reload_settings, answer=models.Done, role=Role.ADMIN, errors=(422, 503),
        )  # fmt: skip
        yield Route(
            method="POST", path="/settings/probe", summary="A frame from a camera's address.",
            handler=self.probe_source, answer=JPEG, body=models.ProbeBody, role=Role.ADMIN,
            errors=(422, 503),
        )  # fmt: skip
        yield Route(
            method="POST", path="/cameras/{camera}/zones/try", role=Role.ADMIN,
            path_words={"camera": "The camera's name."},
            summary="How the camera's last events would score with other zones, masks and areas.",
            handler=self.try_zones, answer=models.Judged, body=models.ShapesBody, errors=(404, 502, 503),
            max_body=512 * 1024,
        )  # fmt: skip

    @property
    def editor(self) -> editing.SettingsEditor:
        """The editor. Raises ApiError (503) if there is none."""
        if self._site.editor is None:
            raise ApiError(503, "the settings cannot be changed from here")
        return self._site.editor

    async def get_settings(self, call: Call[Any]) -> models.SettingsContent:
        del call
        try:
            current = await self.editor.current()
        except SettingsError as exc:
            raise ApiError(422, "the settings cannot be read", problems=exc.problems) from exc
        return models.SettingsContent(
            version=current.version,
            file=current.file,
            fields=[
                models.SettingsField(
                    place=list(field.place), kind=field.kind, choices=list(field.choices),
                    default=field.default, hint=field.hint, help=field.help, required=field.required,
                )
                for field in self.editor.fields()
            ],
            values=dict(current.values),
            secrets=dict(current.secrets),
            environment=dict(current.environment),
            cameras=list(current.cameras),
            problem=current.problem,
        )  # fmt: skip

    async def put_settings(self, call: Call[Any]) -> models.Saved:
        body: models.SettingsBody = call.body
        changes = [editing.Edit(place=change.place, value=change.value) for change in body.changes]
        try:
            outcome = await self.editor.save(body.version, changes, dry_run=body.dry_run)
        except SettingsConflict as exc:
            raise ApiError(409, str(exc)) from exc
        except SettingsError as exc:
            raise ApiError(
                422, "the settings would not be valid: nothing was changed", problems=exc.problems
            ) from exc
        return models.Saved(done=outcome.done, version=outcome.version)

    async def reload_settings(self, call: Call[Any]) -> models.Done:
        del call
        outcome = await self.editor.reload()
        if outcome.problems:
            raise ApiError(422, "the settings are not valid: nothing was changed", problems=outcome.problems)
        return models.Done(done=outcome.done)

    async def probe_source(self, call: Call[Any]) -> web.Response:
        try:
            async with self._probes:
                jpeg = await self.editor.probe(call.body.source)
        except SettingsError as exc:
            raise ApiError(422, "this is not a source", problems=exc.problems) from exc
        except (CameraUnavailable, ImageError) as exc:
            raise ApiError(422, f"this address delivers no image: {exc}") from exc
        return web.Response(body=jpeg, content_type=JPEG)

    async def try_zones(self, call: Call[Any]) -> models.Judged:
        name = call.path["camera"]
        facts = self._site.cameras().get(name)
        if facts is None:
            raise ApiError(404, "there is no such camera")
        found = await self._events.newest(models.EventsQuery(camera=name, limit=JUDGED_EVENTS))
        frames = await self._events.frames(found)
        verdicts = await asyncio.to_thread(judging.judge, frames, call.body, masks=facts.masks)
        return models.Judged(
            events=[
                models.JudgedEvent(event=summary(event), reported=verdict.reported, zones=list(verdict.zones))
                for event, verdict in zip(found, verdicts, strict=True)
            ]
        )
