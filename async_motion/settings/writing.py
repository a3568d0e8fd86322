"""Write `variables.yaml` back for the page: comments and order are kept; the write is all or nothing.

    content ──edited──▶ content' ──load_text──▶ valid? ──write──▶ the file, and `….bak` beside it

- A change sets one value or one section at its place. None resets a key to its default.
- Nothing else may change: the plain data of the new text must equal that of the old text with the changes
  applied. A change that YAML's anchors would carry elsewhere is refused.
- The file is replaced atomically (temporary file, fsync, rename, fsync of the folder) and keeps its mode.
  It is replaced only if it is still the version that the change was made for. A symbolic link stays one: the
  file that it leads to is replaced, and `….bak` is beside that.
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
from async_motion.settings.strict_yaml import read_yaml

Keys = tuple[str, ...]
"""The keys from the top to a value: ``("cameras", "porch", "detect", "masks")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A new value or section, as plain data, for the key at `place`. None: the default."""

    place: Keys
    value: Any


def version_of(content: bytes) -> str:
    """Return the version of the file's content: the first 32 hex digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:32]


def edited(content: bytes, path: Path, changes: Sequence[Change]) -> bytes:
    """Return the content with the changes applied. Raises SettingsError if other values would change."""
    before = _plain(content, path)
    expected = copy.deepcopy(before)
    parser = _parser()
    try:
        root = parser.load(content.decode())
    except (YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be changed from here: {type(exc).__name__}") from None
    if root is None:
        # The file holds only comments: keep them before the new keys.
        root = CommentedMap()
        prefix = content if not content or content.endswith(b"\n") else content + b"\n"
    else:
        prefix = b""
    if not isinstance(root, CommentedMap):
        raise SettingsError(f"{path}: expected keys such as `minio:` and `cameras:`")
    out = io.BytesIO()
    try:
        for change in changes:
            _set(root, change.place, change.value, path)
            _set_plain(expected, change.place, change.value)
        parser.dump(root, out)
    except RecursionError:
        raise SettingsError(f"{path}: cannot be written: a value is nested too deeply") from None
    new = prefix + out.getvalue()
    if _pruned(_plain(new, path)) != _pruned(expected):
        raise SettingsError(f"{path}: this change would alter other values: make it in the file itself")
    return new


def write(path: Path, content: bytes, *, version: str, keep: bool = True) -> None:
    """Replace the file; `keep` the old one as `.bak`. Blocks.

    Raises SettingsConflict if the file is no longer of `version`, SettingsError if it cannot be written.
    """
    file = Path(os.path.realpath(path))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_bytes() if file.exists() else None
        if before is not None and version_of(before) != version:
            raise SettingsConflict(f"{path} has changed in the meantime: read it again")
        like = file.stat() if before is not None else None
        if before is not None and keep:
            _replace(file.with_name(file.name + ".bak"), before, like)
        _replace(file, content, like)
    except OSError as exc:
        hint = ": mount its folder, not the file alone" if exc.errno in (errno.EBUSY, errno.EXDEV) else ""
        raise SettingsError(f"{path}: cannot be written ({exc.strerror}){hint}") from exc


def _replace(path: Path, content: bytes, like: os.stat_result | None) -> None:
    """Replace a file atomically and durably, with the owner and mode of `like`. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if like is not None:
                # Only root gives files away, and not to a user that its container does not know.
                with suppress(OSError):
                    os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), like.st_mode & 0o777)
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
    parser.allow_duplicate_keys = True  # `Document` reports duplicates, with the line
    return parser


def _plain(content: bytes, path: Path) -> dict[str, Any]:
    document = Document()
    document.parse(path, content)
    if document.problems:
        raise SettingsError(*document.sorted_problems())
    return document.data


def _set(root: CommentedMap, place: Keys, value: Any, path: Path) -> None:
    node = root
    for name in place[:-1]:
        key = _key_in(node, name)
        child = node.get(key)
        if child is None:
            if value is None:
                return
            child = CommentedMap()
            _put(node, key, child)
        if not isinstance(child, CommentedMap):
            raise SettingsError(f"{path}: {dotted(place)}: is below something that is not a section")
        node = child
        if node.anchor.value is not None or node.merge:
            raise SettingsError(
                f"{path}: {dotted(place)}: shared by a YAML anchor: change it in the file itself"
            )
    last = _key_in(node, place[-1])
    if value is None:
        if last in node and has_free_keys(place[:-1]):
            del node[last]
        elif last in node:
            # Blank the key instead of removing it, so that its comment stays.
            node[last] = None
    else:
        _put(node, last, _made(value))


def _key_in(node: CommentedMap, name: str) -> Any:
    """Return the key that is written as `name`: ruamel reads `1` and `true` as a number and a flag."""
    return name if name in node else next((key for key in node if str(key).lower() == name), name)


def has_free_keys(place: Keys) -> bool:
    """Return whether the keys of the section at `place` are free names: cameras, zones."""
    found = section_at(place)
    return found is not None and found[1]


def _put(node: CommentedMap, key: Any, value: Any) -> None:
    """Set a key. Insert a new one before the last, whose comment holds the heading of the next section."""
    if key in node:
        node[key] = value
    else:
        node.insert(max(0, len(node) - 1), key, value)


def _made(value: Any) -> Any:
    """Return plain data as ruamel nodes: lists in flow style, text quoted where YAML would misread it."""
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
            stays = read_yaml(value) == value
        except (yaml.YAMLError, ValueError, RecursionError):
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
    """Return plain data without blank values and without sections that hold nothing else."""
    if isinstance(value, Mapping):
        pruned = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, {})}
    if isinstance(value, list | tuple):
        return [_pruned(item) for item in value]
    return value
