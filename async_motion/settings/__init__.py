"""Settings: `variables.yaml`, the environment and secret files become one frozen tree, or an error.

    YAML nodes ──┐                                            ┌──▶ Settings (frozen)
                 ├──▶ plain data + where each value came from ─┤
    environment ─┘                                            └──▶ SettingsError, one line for each problem

The attribute names are the keys of `config/processor/variables.yaml`, which describes every one of them;
the defaults stand in `tree`, and a test holds the two together. Units: durations are float seconds, sizes int
bytes, shares and areas float 0..1. A blank value means the default.

Order of the file: `--config`, `$ASYNC_MOTION_CONFIG`, `config/processor/variables.yaml` under the working
directory, the copy that ships in the package. On top of it, weakest first: `MINIO_ACCESS_KEY` and
`MINIO_SECRET_KEY`, then `ASYNC_MOTION__SECTION__KEY`; each of them also as `…_FILE`, the name of a file that
holds the value (Docker and systemd credentials).

Nothing here opens a camera, a socket or any file but the settings and the `_FILE`s. No text of any problem
holds the value of a secret: secrets are never shown, not even when they are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from async_motion.errors import SettingsError
from async_motion.settings.document import Document
from async_motion.settings.places import explain
from async_motion.settings.rules import contradictions
from async_motion.settings.shapes import Confirm, Frames
from async_motion.settings.tree import CameraSettings, Section, Settings, ZoneSettings
from async_motion.settings.values import at_home

__all__ = [
    "DEFAULT_PATH",
    "CameraSettings",
    "Confirm",
    "Frames",
    "Section",
    "Settings",
    "ZoneSettings",
    "camera_of",
    "find",
    "load",
    "load_text",
    "shipped",
]

CONFIG_VARIABLE = "ASYNC_MOTION_CONFIG"
DEFAULT_PATH = Path("config/processor/variables.yaml")


def find(config: Path | None, env: Mapping[str, str]) -> Path:
    """Return the settings file that `load` will read. Raises SettingsError where it cannot be told."""
    if config is not None:
        return config
    if env.get(CONFIG_VARIABLE):
        try:
            return at_home(env[CONFIG_VARIABLE])
        except ValueError as exc:
            raise SettingsError(f"{CONFIG_VARIABLE}: {exc}") from None
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else shipped()


def shipped() -> Path:
    """Return the settings file that came with the package: every key at its default, all embedded."""
    return Path(__file__).resolve().with_name("default.yaml")


def load(config: Path | None, env: Mapping[str, str]) -> Settings:
    """Return the settings from the file that `find` names and from `env` on top of it.

    Raises SettingsError with every problem found, those of the file in the order of its lines.
    """
    document = Document()
    path = find(config, env)
    document.read(path)
    return _settings(document, path, env)


def load_text(content: bytes, path: Path, env: Mapping[str, str]) -> Settings:
    """Return what `load` would if the file at `path` held this content. Raises SettingsError."""
    document = Document()
    document.parse(path, content)
    return _settings(document, path, env)


def camera_of(source: str) -> CameraSettings:
    """Return a camera with this source and all defaults. Raises SettingsError."""
    try:
        return CameraSettings.model_validate({"source": source})
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"source: {error.get('ctx', {}).get('error', error['msg'])}") from None


def _settings(document: Document, path: Path, env: Mapping[str, str]) -> Settings:
    document.overlay(env)
    try:
        settings = Settings.model_validate(document.data)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):
            place, text = explain(error["loc"], error["type"], error.get("ctx", {}), error["msg"])
            document.problem(place, text)
    else:
        for place, text in contradictions(settings):
            document.problem(place, text)
        if not document.problems:
            settings._origin = document.origin(path)  # noqa: SLF001  # the tree is frozen, and no key of the file
            return settings
    raise SettingsError(*document.sorted_problems())
