"""The table of all routes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from async_motion.web.api import models, openapi
from async_motion.web.api.cameras import CamerasApi
from async_motion.web.api.events import EventsApi
from async_motion.web.api.routing import BASE, Call, Route
from async_motion.web.api.settings import SettingsApi
from async_motion.web.api.upkeep import UpkeepApi
from async_motion.web.site import Site


class Api:
    """The routes of one site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.cameras = CamerasApi(site)
        self.events = EventsApi(site)
        self.settings = SettingsApi(site, self.events)
        self.upkeep = UpkeepApi(site)
        self.routes: tuple[Route, ...] = (
            Route(
                method="GET", path="/session", summary="Caller and instance.", handler=self.get_session,
                answer=models.Session,
            ),
            Route(
                method="GET", path="/state", summary="The state of the service, as published over MQTT.",
                handler=self.get_state, answer=models.JsonDocument,
            ),
            Route(
                method="GET", path="/openapi.json", summary="This document.", handler=self.get_document,
                answer=models.JsonDocument,
            ),
            *self.cameras.routes(),
            *self.events.routes(),
            *self.settings.routes(),
            *self.upkeep.routes(),
        )  # fmt: skip

    def install(self, app: web.Application) -> None:
        """Add all routes to the application."""
        for route in self.routes:
            route.install(app)

    def find(self, request: web.Request) -> Route | None:
        """Return the route of the API that a request matches, else None."""
        resource = request.match_info.route.resource
        for route in self.routes:
            if (
                resource is not None
                and resource.canonical == BASE + route.path
                and route.method == request.method
            ):
                return route
        return None

    async def get_session(self, call: Call[Any]) -> models.Session:
        visitor = call.visitor
        return models.Session(
            instance=self._site.instance,
            version=self._site.version,
            role="admin" if visitor.role.name == "ADMIN" else "viewer",
            how=visitor.how,
            name=visitor.name,
        )

    async def get_state(self, call: Call[Any]) -> models.JsonDocument:
        del call
        return models.JsonDocument.model_validate(dict(self._site.snapshot()))

    async def get_document(self, call: Call[Any]) -> models.JsonDocument:
        del call
        return models.JsonDocument.model_validate(openapi.document(self.routes, version=self._site.version))
