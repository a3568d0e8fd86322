"""The protocol and values by which the pages read and change the settings."""

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
    """The content of the settings file. `version` identifies it.

    `values` are as written in the file, by dotted key. `secrets` holds the secrets that are set, with the
    part that may be shown. `environment` names the variable that overrides a key. `problem`: why the last
    reload failed. `unread` are the cameras whose zones, masks or areas in the file are not those in force:
    they were changed by hand and not read again.
    """

    version: str
    file: str
    values: Mapping[str, str]
    secrets: Mapping[str, str]
    environment: Mapping[str, str]
    cameras: Sequence[str]
    problem: str | None
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A new value or section, as plain data, for the key at `place`; None or blank: the default."""

    place: Sequence[str]
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOutcome:
    """What was done, one line each. If there are `problems`, nothing was changed.

    `version` identifies the file's content after a change.
    """

    done: list[str]
    problems: list[str]
    version: str = ""


class SettingsEditor(Protocol):
    """Reads, writes and reloads the settings."""

    def fields(self) -> list[EditorField]: ...

    async def current(self) -> Current:
        """Return the content of the file. Raises SettingsError if it cannot be read."""

    async def save(self, version: str, changes: Sequence[Edit], *, dry_run: bool) -> EditOutcome:
        """Write the changes and apply them; with `dry_run` only check them.

        Raises SettingsConflict if the file is no longer of `version`, SettingsError with every problem.
        """

    async def reload(self) -> EditOutcome:
        """Read the file again and apply it; invalid settings change nothing."""

    async def probe(self, source: str) -> bytes:
        """Return a JPEG from the camera at `source`. Raises SettingsError, CameraUnavailable, ImageError."""
