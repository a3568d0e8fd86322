"""The settings as the pages change them: what they need of the service, in values of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class EditorField:
    """One key; in `place`, `*` stands for a camera's name."""

    place: tuple[str, ...]
    kind: Literal["flag", "choice", "secret", "text", "shape"]
    choices: tuple[str, ...]
    default: str
    hint: str
    help: str
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Current:
    """The settings' file. `version` tells its content from another.

    `values` are as people wrote them, by dotted key. `secrets` are those that are set, with what may be shown
    of them. `environment` names the variables that outweigh the file. `problem`: why the last reload failed.
    """

    version: str
    file: str
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    environment: Mapping[str, str]
    cameras: Sequence[str]
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One value or section of plain data at its place; None or blank: the default."""

    place: Sequence[str]
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOutcome:
    """What was done, a line each. With `problems` nothing was."""

    done: list[str]
    problems: list[str]


class SettingsEditor(Protocol):
    """Reads, writes and reloads the settings."""

    def fields(self) -> list[EditorField]: ...

    async def current(self) -> Current:
        """Return what the file says. Raises SettingsError where it cannot be read."""

    async def save(self, version: str, changes: Sequence[Edit], *, dry_run: bool) -> EditOutcome:
        """Write and put in force; raises SettingsConflict, SettingsError with every problem."""

    async def reload(self) -> EditOutcome:
        """Read the file again; invalid settings change nothing."""

    async def probe(self, source: str) -> bytes:
        """Return a JPEG from a camera's address. Raises SettingsError, CameraUnavailable."""
