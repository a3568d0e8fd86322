"""A million small objects in SeaweedFS within minutes: entries for its filer, loaded by `weed shell`.

A PUT of a few bytes costs both sides some 3 ms. `fs.meta.load` reads entries from a file and creates several
thousand a second. An entry may carry its body (`content`), so that it needs no volume. Listing, GET and HEAD
over S3 then work as for any other object.

The file repeats: the length of a message (4 bytes, big-endian), then the message, `FullEntry` of SeaweedFS's
filer.proto:

    FullEntry       1 dir, 2 entry
    Entry           1 name, 4 attributes, 5 extended (a map), 9 content
    FuseAttributes  1 file_size, 2 mtime (s), 3 file_mode, 6 crtime (s), 14 md5
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from tests.support.s3 import S3Server


def write_entries(
    file: BinaryIO, bucket: str, objects: Iterable[tuple[str, bytes, Mapping[str, str]]]
) -> int:
    """Append the entries of (key, body, user metadata) to `file`; return their number."""
    count, now = 0, int(time.time())
    for key, body, metadata in objects:
        folder, _, name = f"/buckets/{bucket}/{key}".rpartition("/")
        md5 = hashlib.md5(body, usedforsecurity=False)
        attributes = (
            _number(1, len(body))
            + _number(2, now)
            + _number(3, 0o660)
            + _number(6, now)
            + _bytes(14, md5.digest())
        )
        extended = {"Seaweed-X-Amz-ETag": md5.hexdigest()} | {
            f"X-Amz-Meta-{header.title()}": value for header, value in metadata.items()
        }
        entry = (
            _bytes(1, name.encode())
            + _bytes(4, attributes)
            + b"".join(_bytes(5, _bytes(1, k.encode()) + _bytes(2, v.encode())) for k, v in extended.items())
            + _bytes(9, body)
        )
        message = _bytes(1, folder.encode()) + _bytes(2, entry)
        file.write(struct.pack(">I", len(message)) + message)
        count += 1
    return count


def load_entries(server: S3Server, path: Path) -> None:
    """Create the entries of a file in a running SeaweedFS."""
    ports = dict(re.findall(r"-(\w+\.port(?:\.grpc)?)=(\d+)", " ".join(server.command)))
    master, filer = (
        f"127.0.0.1:{ports[f'{name}.port']}.{ports[f'{name}.port.grpc']}" for name in ("master", "filer")
    )
    done = subprocess.run(
        [server.command[0], "shell", f"-master={master}", f"-filer={filer}"],
        input=f"fs.meta.load -v=false -concurrency=16 {path}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    if "error" in done.stdout + done.stderr:
        raise RuntimeError(f"fs.meta.load: {done.stdout[-500:]}{done.stderr[-500:]}")


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
