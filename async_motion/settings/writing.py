"""`variables.yaml` written back by the page: its comments and order kept, whole or not at all.

    content ──edited──▶ content' ──load_text──▶ valid? ──write──▶ the file, and `….bak` beside it

- A change sets one value or one section at its place; a blank value (None) takes the key out: the default.
- Nothing else may change: the plain data of the new text are held against those of the old with the changes
  made. Where YAML's anchors would carry a change elsewhere it is refused.
- The file is replaced in one step (a temporary file, fsync, rename, fsync of the folder), with its mode, and
  only while it still is what the change was made for.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from async_motion.errors import SettingsConflict, SettingsError
from async_motion.settings.document import Document
from async_motion.settings.places import dotted, section_at

Keys = tuple[str, ...]
"""The keys from the top to a value: ``("cameras", "porch", "detect", "masks")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value, or one section, of plain data. None takes the key out."""

    place: Keys
    value: Any


def version_of(content: bytes) -> str:
    """Return what tells one content of the file from another."""
    return hashlib.sha256(content).hexdigest()[:32]


def edited(content: bytes, path: Path, changes: Sequence[Change]) -> bytes:
    """Return the content with the changes made. Raises SettingsError where it cannot be done safely."""
    before = _plain(content, path)
    expected = copy.deepcopy(before)
    parser = _parser()
    try:
        root = parser.load(content.decode())
    except (YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be changed from here: {type(exc).__name__}") from None
    if root is None:
        # Nothing but comments: they go before what is added.
        root = CommentedMap()
        prefix = content if not content or content.endswith(b"\n") else content + b"\n"
    else:
        prefix = b""
    if not isinstance(root, CommentedMap):
        raise SettingsError(f"{path}: expected keys such as `minio:` and `cameras:`")
    for change in changes:
        _set(root, change.place, change.value, path)
        _set_plain(expected, change.place, change.value)
    out = io.BytesIO()
    parser.dump(root, out)
    new = prefix + out.getvalue()
    if _pruned(_plain(new, path)) != _pruned(expected):
        raise SettingsError(f"{path}: this change would touch other values: make it in the file itself")
    return new


def write(path: Path, content: bytes, *, version: str) -> None:
    """Replace the file, with a backup beside it. Blocks.

    Raises SettingsConflict where the file is no longer of `version`, SettingsError where it cannot be
    written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else None
        if before is not None and version_of(before) != version:
            raise SettingsConflict(f"{path} has been changed meanwhile: look at it again")
        mode = path.stat().st_mode & 0o777 if before is not None else 0o600
        if before is not None:
            _replace(path.with_name(path.name + ".bak"), before, mode)
        _replace(path, content, mode)
    except OSError as exc:
        hint = ": mount its folder, not the file alone" if exc.errno in (errno.EBUSY, errno.EXDEV) else ""
        raise SettingsError(f"{path}: cannot be written ({exc.strerror}){hint}") from exc


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parser() -> YAML:
    parser = YAML(typ="rt")
    parser.preserve_quotes = True
    parser.width = 4096
    parser.indent(mapping=2, sequence=4, offset=2)
    parser.allow_duplicate_keys = True  # our own reader says it with its line
    return parser


def _plain(content: bytes, path: Path) -> dict[str, Any]:
    document = Document()
    document.parse(path, content)
    if document.problems:
        raise SettingsError(*document.sorted_problems())
    return document.data


def _set(root: CommentedMap, place: Keys, value: Any, path: Path) -> None:
    node = root
    for key in place[:-1]:
        child = node.get(key)
        if child is None:
            if value is None:
                return
            child = CommentedMap()
            _put(node, key, child)
        if not isinstance(child, CommentedMap):
            raise SettingsError(f"{path}: {dotted(place)}: stands below what is no section")
        node = child
        if node.anchor.value is not None or node.merge:
            raise SettingsError(f"{path}: {dotted(place)}: shared by an anchor: change it in the file itself")
    if value is None:
        if place[-1] in node and has_free_keys(place[:-1]):
            del node[place[-1]]
        elif place[-1] in node:
            # Blank rather than gone: its comment stays where people look for it.
            node[place[-1]] = None
    else:
        _put(node, place[-1], _made(value))


def has_free_keys(place: Keys) -> bool:
    """Return whether the keys of a section are names of one's own: cameras, zones."""
    found = section_at(place)
    return found is not None and found[1]


def _put(node: CommentedMap, key: str, value: Any) -> None:
    """Set a key. A new one goes before the last, whose comment holds the heading of what follows."""
    if key in node:
        node[key] = value
    else:
        node.insert(max(0, len(node) - 1), key, value)


def _made(value: Any) -> Any:
    """Return plain data as ruamel writes them: short lists in one line, texts so that they stay texts."""
    if isinstance(value, Mapping):
        made = CommentedMap()
        for key, item in value.items():
            if item is not None:
                made[str(key)] = _made(item)
        return made
    if isinstance(value, list | tuple):
        items = CommentedSeq(_made(item) for item in value)
        items.fa.set_flow_style()
        return items
    if isinstance(value, str):
        try:
            stays = yaml.safe_load(value) == value
        except (yaml.YAMLError, ValueError):
            stays = False
        return value if stays else DoubleQuotedScalarString(value)
    return value


def _set_plain(data: dict[str, Any], place: Keys, value: Any) -> None:
    node = data
    for key in place[:-1]:
        child = node.get(key)
        if child is None:
            child = node[key] = {}
        node = child
    node[place[-1]] = value


def _pruned(value: Any) -> Any:
    """Return plain data without what is blank, and without the sections that hold nothing else."""
    if isinstance(value, Mapping):
        pruned = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, {})}
    if isinstance(value, list | tuple):
        return [_pruned(item) for item in value]
    return value
