"""Settings: load `variables.yaml`, the environment and secret files into one frozen tree, or fail.

    YAML nodes ──┐                                       ┌──▶ Settings (frozen)
                 ├──▶ plain data + origin of each value ─┤
    environment ─┘                                       └──▶ SettingsError, one line for each problem

The attribute names are the keys of `config/processor/variables.yaml`, which describes each key. The defaults
are in `tree`; a test checks that the two agree. Units: durations are float seconds, sizes int bytes, shares
and areas float 0..1. A blank value means the default.

The file is the first of: `--config`, `$ASYNC_MOTION_CONFIG`, `config/processor/variables.yaml` under the
working directory, the copy that ships in the package. The environment overrides it, weakest first:
`MINIO_ACCESS_KEY` and `MINIO_SECRET_KEY`, then `ASYNC_MOTION__SECTION__KEY`. Each of them may also be given
as `…_FILE`, the name of a file that holds the value (Docker and systemd credentials). A secret may be a
reference to AWS Secrets Manager (`references`).

Nothing here opens a camera, any file but the settings and the `_FILE`s, or a socket but for such secrets.
No error message holds the value of a secret, not even of an invalid one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from async_motion.errors import SettingsError
from async_motion.settings.document import Document
from async_motion.settings.places import explain
from async_motion.settings.references import References, Unresolved
from async_motion.settings.rules import contradictions
from async_motion.settings.shapes import Confirm, Frames
from async_motion.settings.tree import CameraSettings, DetectSettings, Section, Settings, ZoneSettings
from async_motion.settings.values import at_home

__all__ = [
    "DEFAULT_PATH",
    "CameraSettings",
    "Confirm",
    "Frames",
    "References",
    "Section",
    "Settings",
    "Unresolved",
    "ZoneSettings",
    "camera_of",
    "detection_of",
    "find",
    "load",
    "load_text",
    "shipped",
]

CONFIG_VARIABLE = "ASYNC_MOTION_CONFIG"
DEFAULT_PATH = Path("config/processor/variables.yaml")


def find(config: Path | None, env: Mapping[str, str]) -> Path:
    """Return the settings file that `load` reads. Raises SettingsError if `~` cannot be resolved."""
    if config is not None:
        return config
    if env.get(CONFIG_VARIABLE):
        try:
            return at_home(env[CONFIG_VARIABLE])
        except ValueError as exc:
            raise SettingsError(f"{CONFIG_VARIABLE}: {exc}") from None
    return DEFAULT_PATH if DEFAULT_PATH.is_file() else shipped()


def shipped() -> Path:
    """Return the settings file in the package: every key at its default, store and broker embedded."""
    return Path(__file__).resolve().with_name("default.yaml")


def load(config: Path | None, env: Mapping[str, str], *, references: References | None = None) -> Settings:
    """Load the settings from the file that `find` returns, overridden by `env`.

    `references` resolves references to secrets; None: AWS Secrets Manager, which blocks.
    Raises SettingsError with every problem found: those of the file in line order, then the environment's.
    """
    document = Document()
    path = find(config, env)
    document.read(path)
    return _settings(document, path, env, references or References())


def load_text(content: bytes, path: Path, env: Mapping[str, str]) -> Settings:
    """Return what `load` would return if the file at `path` held `content`. Raises SettingsError."""
    document = Document()
    document.parse(path, content)
    return _settings(document, path, env, References())


def camera_of(source: str) -> CameraSettings:
    """Return a camera with this source, all else at its default. Raises SettingsError."""
    try:
        return CameraSettings.model_validate({"source": source})
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"source: {error.get('ctx', {}).get('error', error['msg'])}") from None


def detection_of(section: object) -> DetectSettings | None:
    """Return the detection that a section of the file, as plain data, sets; None if it is not valid."""
    try:
        return DetectSettings.model_validate(section)
    except ValidationError:
        return None


def _settings(document: Document, path: Path, env: Mapping[str, str], references: References) -> Settings:
    document.overlay(env)
    try:
        settings = Settings.model_validate(document.data, context=references)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):
            place, text = explain(error["loc"], error["type"], error.get("ctx", {}), error["msg"])
            document.problem(place, text)
    else:
        for place, text in contradictions(settings):
            document.problem(place, text)
        if not document.problems:
            # The tree is frozen, and these are no keys of the file.
            settings._origin = document.origin(path)  # noqa: SLF001
            settings._secret_names = references.names  # noqa: SLF001
            return settings
    raise SettingsError(*document.sorted_problems())
