"""Read the YAML file and the environment into plain data, with the origin of each value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from async_motion.errors import SettingsError
from async_motion.settings.places import Place, dotted, exists
from async_motion.settings.strict_yaml import MAX_VALUES, AmbiguousNumber, StrictLoader
from async_motion.settings.values import EnvText, shown, structure

PREFIX = "ASYNC_MOTION__"

_LONGEST_SECRET_FILE = 64 * 1024
_MAX_BYTES = 4 * 1024 * 1024
"""Largest settings file that is read."""
_STATIC_KEYS = {"MINIO_ACCESS_KEY": ("minio", "access_key"), "MINIO_SECRET_KEY": ("minio", "secret_key")}
_LAST = 10**9
"""A line number beyond any file: sorts the environment's problems after the file's."""


class Document:
    """The plain data of the settings, with the origin of each value: file and line, or variable."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.problems: list[tuple[int, str]] = []
        self._file = ""
        self._lines: dict[Place, int] = {}
        self._variables: dict[Place, str] = {}
        self._values = 0

    def origin(self, path: Path) -> str:
        used = sorted(set(self._variables.values()))
        return f"{path}, with {', '.join(used)} from the environment" if used else str(path)

    @property
    def variables(self) -> Mapping[Place, str]:
        """The variable of each value that comes from the environment, by place."""
        return self._variables

    def problem(self, place: Place, text: str) -> None:
        """Add a problem at `place`, with the nearest known origin: its own, one inside it, one around it."""
        key = dotted(place)
        for depth in range(len(place), -1, -1):
            near = place[:depth]
            within = (
                v
                for p, v in self._variables.items()
                if near and near not in self._lines and p[:depth] == near
            )
            if variable := self._variables.get(near) or next(within, None):
                self.problems.append((_LAST, f"{variable}: {key}: {text}"))
                return
            if line := self._lines.get(near):
                self._at(line, f"{key}: {text}")
                return
        self.problems.append((0, f"{self._file or 'settings'}: {key}: {text}"))

    def sorted_problems(self) -> list[str]:
        return [text for _, text in sorted(self.problems, key=lambda problem: problem[0])]

    def _at(self, line: int, text: str) -> None:
        self.problems.append((line, f"{self._file}:{line}: {text}"))

    # -- the file --

    def read(self, path: Path) -> None:
        """Read a YAML file. Raises SettingsError if it is unreadable; other problems are collected."""
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except OSError as exc:
            raise SettingsError(f"{path}: cannot be read ({exc.strerror}), expected a settings file") from exc
        self.parse(path, content)

    def parse(self, path: Path, content: bytes) -> None:
        """Read the content that the file at `path` holds, or would hold; otherwise as `read`."""
        self._file = str(path)
        self._values = 0
        if len(content) > _MAX_BYTES:
            raise SettingsError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, expected a settings file")
        try:
            loader = StrictLoader(content)
            try:
                root = loader.get_single_node()
                data = self._plain(loader, root, (), ()) if root is not None else None
            finally:
                loader.dispose()
        except RecursionError:
            raise SettingsError(f"{path}: nested too deeply, expected a settings file") from None
        except yaml.MarkedYAMLError as exc:
            mark = exc.problem_mark or exc.context_mark
            where = f"{path}:{mark.line + 1}" if mark else f"{path}"
            raise SettingsError(f"{where}: broken YAML: {_safe_words(exc)}") from None
        except yaml.reader.ReaderError as exc:
            line = content[: exc.position].count(b"\n") + 1 if isinstance(exc.position, int) else 1
            raise SettingsError(f"{path}:{line}: broken YAML: {exc.reason}, expected UTF-8 text") from None
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise SettingsError(f"{path}:1: {shown(data)}, expected keys such as `minio:` and `cameras:`")
        self.data = data

    def _plain(
        self,
        loader: StrictLoader,
        node: yaml.Node,
        place: Place,
        above: tuple[int, ...],
        known: set[str] | None = None,
    ) -> Any:
        """Return the plain data of a node, keys as written, and record the lines.

        If the node is merged into a section, `known` are the section's keys so far, which win; the node's
        are added.
        """
        line = node.start_mark.line + 1
        if isinstance(node, yaml.CollectionNode):
            self._count(len(node.value), line)
        self._lines.setdefault(place, line)
        if id(node) in above:
            self.problem(place, "an alias that contains itself, expected a value")
            return None
        above = (*above, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*place, i), above) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, place, above, set() if known is None else known)
        try:
            return loader.construct_object(node)
        except AmbiguousNumber as exc:
            self.problem(place, str(exc))
        except ValueError:
            self.problem(place, "cannot be read, expected text: put it in quotes")
        return None

    def _mapping(
        self,
        loader: StrictLoader,
        node: yaml.MappingNode,
        place: Place,
        above: tuple[int, ...],
        known: set[str],
    ) -> dict[str, Any]:
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                is_list = isinstance(value_node, yaml.SequenceNode)
                merged.extend(value_node.value if is_list else [value_node])
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._at(line, f"{dotted(place)}: a key that is not text, expected `key: value`")
                continue
            # Keep the key as written: a camera may be called `on` or `1`, which YAML 1.1 would convert.
            key = key_node.value
            if key in known:
                continue
            if key in own:
                self._at(
                    line,
                    f"{dotted((*place, key))}: given twice, expected once (first in line {first[key]})",
                )
                continue
            first[key] = line
            self._lines[(*place, key)] = line
            own[key] = self._plain(loader, value_node, (*place, key), above)
        self._count(len(merged), node.start_mark.line + 1)
        known.update(own)
        parts = [own]
        for other in merged:  # YAML's `<<: *anchor`: keys written here win, then those of the first anchor
            data = self._plain(loader, other, place, above, known)
            if isinstance(data, dict):
                parts.append(data)
            else:
                self._at(
                    other.start_mark.line + 1,
                    f"{dotted(place)}: `<<` needs a section, expected `<<: *anchor`",
                )
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _count(self, values: int, line: int) -> None:
        """Count values before they are read, also those that are skipped. Raises SettingsError."""
        self._values += values
        if self._values > MAX_VALUES:
            raise SettingsError(
                f"{self._file}:{line}: more than {MAX_VALUES} values with all aliases, expected fewer"
            )

    # -- the environment --

    def overlay(self, env: Mapping[str, str]) -> None:
        """Override the values of the file with those of the environment."""
        for variable, place in _STATIC_KEYS.items():
            for source in (variable, f"{variable}_FILE"):
                if env.get(source):
                    self._take(env, source, place, from_file=source != variable, twin=variable)
        variables = [variable for variable in env if variable.startswith(PREFIX)]
        # Shorter first: a whole section, then the keys within it.
        for variable in sorted(variables, key=lambda v: (v.count("__"), v)):
            *above, last = variable.removeprefix(PREFIX).lower().split("__")
            named, stem = (*above, last), (*above, last.removesuffix("_file"))
            from_file = last.endswith("_file") and exists(stem) and not exists(named)
            twin = variable.removesuffix("_FILE") if from_file else variable
            self._take(env, variable, stem if from_file else named, from_file=from_file, twin=twin)

    def _take(
        self, env: Mapping[str, str], variable: str, place: Place, *, from_file: bool, twin: str
    ) -> None:
        key = dotted(place)
        if from_file and env.get(twin):
            self.problems.append((_LAST, f"{variable}: {key}: {twin} is set too, expected one of the two"))
            return
        value = env[variable]
        if from_file and not value:
            return  # a variable passed on without a value, as Compose does for `VARIABLE: ${VARIABLE:-}`
        if from_file:
            try:
                value = _secret_file(Path(value))
            except OSError as exc:
                why = f"cannot read {env[variable]} ({exc.strerror})"
                self.problems.append((_LAST, f"{variable}: {key}: {why}, expected a file with the value"))
                return
            except ValueError as exc:
                self.problems.append((_LAST, f"{variable}: {key}: {env[variable]} {exc}"))
                return
        self._put(place, EnvText(value), variable)

    def _put(self, place: Place, value: EnvText, variable: str) -> None:
        node: dict[str, Any] = self.data
        at: Place = ()
        for name in place[:-1]:
            part = _same_name(node, str(name))
            at = (*at, part)
            child = node.get(part)
            if isinstance(child, EnvText):
                try:
                    child = structure(child)
                except ValueError as exc:
                    self.problem(at, str(exc))
                    return
            if child is None:
                child = {}
            if not isinstance(child, dict):
                return  # the section itself is invalid; validation reports it
            node[part] = child
            node = child
        last = _same_name(node, str(place[-1]))
        node[last] = value
        self._variables[(*at, last)] = variable


def _same_name(node: Mapping[str, Any], part: str) -> str:
    """Return the key that `part` means: a variable's name cannot contain the hyphen of ``front-door``."""
    return part if part in node else next((key for key in node if key.replace("-", "_") == part), part)


def _secret_file(path: Path) -> str:
    """Return the text of a secret file without its last line break. Raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(_LONGEST_SECRET_FILE + 1)
    if len(content) > _LONGEST_SECRET_FILE:
        raise ValueError("is longer than 64 KiB, expected a file with the value alone")
    try:
        text = content.decode("utf-8-sig")  # editors on Windows may write a byte order mark
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text, expected a file with the value alone") from None
    return text.removesuffix("\n").removesuffix("\r")


def _safe_words(exc: yaml.MarkedYAMLError) -> str:
    """Return the parser's message without its quotes from the file: the line may hold a password."""
    words = exc.problem or exc.context or "cannot be read"
    return re.sub(r"'(?!<)[^'\\s]{2,}'", "…", words)
