"""A backup of the service in one file: its settings file, and its spool.

    manifest.json     format, version, instance, time
    variables.yaml    the settings file, byte for byte, with its secrets
    spool.db          a snapshot: waiting records, Home Assistant's devices, remembered values, learned scenes

The file is a tar without compression, since most of the spool is JPEGs. Only this user can read it. It does
not hold values from the environment and from secret files, certificates, or stored events (copy a directory
store as any folder).
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from async_motion import __version__
from async_motion.errors import AsyncMotionError, SettingsError, UsageError
from async_motion.settings import DEFAULT_PATH, find, load_text, shipped
from async_motion.settings.writing import version_of, write
from async_motion.spool import restore as restore_spool
from async_motion.spool import snapshot

FORMAT = 1
MANIFEST, SETTINGS, SPOOL = "manifest.json", "variables.yaml", "spool.db"
_MAX_TEXT = 4 * 1024 * 1024


def backup(config: Path | None, env: Mapping[str, str], target: Path) -> list[str]:
    """Write a backup of the service with these settings to `target`, in one step. Blocks.

    Returns one line for each thing that the backup holds or leaves out. Raises SettingsError; UsageError if
    `target` exists; SpoolError; AsyncMotionError if `target` cannot be written.
    """
    if target.exists():
        raise UsageError(f"{target}: exists already, expected a new name")
    path = find(config, env)
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read ({exc.strerror})") from exc
    settings = load_text(content, path, env)
    spool = Path(settings.spool.path)
    with _written(target) as (file, folder), tarfile.open(fileobj=file, mode="w") as tar:
        at = datetime.now(UTC)
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "instance": settings.instance,
            "made_at": at.isoformat(timespec="seconds"),
        }
        _add(tar, MANIFEST, json.dumps(manifest, indent=2).encode(), at)
        _add(tar, SETTINGS, content, at)
        lines = [f"settings  {path}"]
        if settings.spool.path == ":memory:":
            lines.append("not included: the spool, which is in memory")
        elif not spool.exists():
            lines.append(f"not included: {spool}: there is no spool yet")
        else:
            copy = folder / SPOOL
            snapshot(spool, copy)
            tar.add(copy, SPOOL, filter=_plain)
            lines.append(f"spool     {spool}, {copy.stat().st_size / 1e6:.1f} MB")
    if used := [name for name in env if name.startswith(("ASYNC_MOTION__", "MINIO_"))]:
        lines.append(f"not included: the environment's {', '.join(sorted(used))}")
    if settings.minio.endpoint is None:
        lines.append(f"not included: the stored events in {settings.directory.path}")
    return lines


def restore(source: Path, config: Path | None, env: Mapping[str, str], *, replace: bool = False) -> list[str]:
    """Restore a backup: the settings to `config`, the spool to the path in these settings. Blocks.

    Returns one line for each step. The spool is restored first: if that fails, the settings stay unchanged.
    Raises UsageError if `source` is not a backup; SettingsError if other settings exist and `replace` is not
    set; SpoolError.
    """
    with _members(source) as (tar, names):
        if set(names) - {SPOOL} != {MANIFEST, SETTINGS}:
            raise UsageError(f"{source}: is not a backup of async_motion")
        manifest, content = _manifest(source, _text(tar, MANIFEST)), _text(tar, SETTINGS)
        path = find(config, env)
        if path == shipped():
            path = DEFAULT_PATH  # never overwrite the copy in the package
        before = path.read_bytes() if path.exists() else None
        own = before not in (None, content, shipped().read_bytes())
        if own and not replace:
            raise SettingsError(f"{path}: other settings are there already: move them away, or add --replace")
        settings = load_text(content, path, env)
        if settings.instance != manifest["instance"]:
            raise SettingsError(
                f"{source}: belongs to {manifest['instance']}, but these settings name {settings.instance}:"
                f" set ASYNC_MOTION__INSTANCE={manifest['instance']}, also for the service"
            )
        lines = []
        if SPOOL in names and settings.spool.path != ":memory:":
            target = Path(settings.spool.path)
            stream = tar.extractfile(SPOOL)
            assert stream is not None, "_members admits files only"
            away = restore_spool(stream, target, replace=replace)
            lines.append(f"spool     {target}" + (f" (the previous one is now {away})" if away else ""))
        if before != content:
            write(path, content, version=version_of(before or b""))
        lines.append(f"settings  {path}" + (f" (the previous ones are now {path}.bak)" if own else ""))
    return lines


@contextmanager
def _written(target: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a file that becomes `target` at the end, and a temporary folder beside it.

    Raises AsyncMotionError if they cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            part = Path(scratch) / target.name
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                yield file, Path(scratch)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, target)  # fails if `target` has appeared meanwhile
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as exc:
        raise AsyncMotionError(f"{target}: cannot be written ({exc.strerror or exc})") from exc


def _add(tar: tarfile.TarFile, name: str, content: bytes, at: datetime) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o600, int(at.timestamp())
    tar.addfile(member, io.BytesIO(content))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return the member without its owner: uid 0, no names, mode 0600."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


@contextmanager
def _members(source: Path) -> Iterator[tuple[tarfile.TarFile, list[str]]]:
    """Open a backup; yield it and the names of its files. Raises UsageError if it is not a backup."""
    try:
        with tarfile.open(source, mode="r:") as tar:
            yield tar, [member.name for member in tar.getmembers() if member.isreg()]
    except OSError as exc:
        raise UsageError(f"{source}: cannot be read ({exc.strerror or exc})") from exc
    except tarfile.TarError as exc:
        raise UsageError(f"{source}: is not a backup of async_motion, or is truncated ({exc})") from exc


def _text(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    assert stream is not None, "_members admits files only"
    return stream.read(_MAX_TEXT)


def _manifest(source: Path, content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
        number, instance = fields["format"], fields["instance"]
    except (ValueError, TypeError, KeyError) as exc:
        raise UsageError(f"{source}: is not a backup of async_motion: its manifest cannot be read") from exc
    if number != FORMAT:
        raise UsageError(f"{source}: has format {number} of another version: use that version")
    return {"instance": instance}
