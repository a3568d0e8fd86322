"""Take out of shared libraries the zeros that a patch has put between their segments.

    compact.py FOLDER

`patchelf` aligns segments to 2 MiB in the file, so a library of 20 kB can have 6 MB. In memory everything
stays where it is; in the file each segment moves up to the next 64 KiB, the largest page of arm64 and amd64.
Section headers, which only debuggers and linkers read, are left out.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

PAGE = 0x10000
MIN_SAVED = 1 << 20
LOAD = 1
HEADER = struct.Struct("<QQIHHHHHH")
"""From byte 32 on: e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, then the sections' three."""
SEGMENT = struct.Struct("<IIQQQQQQ")
"""p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align."""


def compacted(data: bytes) -> bytes:
    """Return a 64-bit little-endian ELF file without its gaps. Raises ValueError for any other file."""
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("no 64-bit little-endian ELF file")
    phoff, _, flags, ehsize, phentsize, count, shentsize, _, _ = HEADER.unpack_from(data, 32)
    segments = [SEGMENT.unpack_from(data, phoff + number * phentsize) for number in range(count)]
    made = bytearray()
    moved: list[tuple[int, int, int]] = []  # old offset, size, new offset
    for kind, _, offset, address, _, size, _, _ in segments:
        if kind == LOAD:
            to = offset if offset == 0 else len(made) + (address - len(made)) % PAGE
            made.extend(bytes(to - len(made)))
            made += data[offset : offset + size]
            moved.append((offset, size, to))

    def place(offset: int) -> int:
        for start, size, to in moved:
            if start <= offset < start + max(size, 1):
                return offset - start + to
        raise ValueError(f"byte {offset} is in no segment that is loaded")

    new_phoff = place(phoff)
    for number, (kind, mode, offset, address, physical, size, memory, align) in enumerate(segments):
        to = place(offset) if size else 0
        align = PAGE if kind == LOAD else align  # noqa: PLW2901
        SEGMENT.pack_into(
            made, new_phoff + number * phentsize, kind, mode, to, address, physical, size, memory, align
        )
    HEADER.pack_into(made, 32, new_phoff, 0, flags, ehsize, phentsize, count, shentsize, 0, 0)
    return bytes(made)


def main() -> None:
    saved = 0
    for library in sorted(Path(sys.argv[1]).rglob("*.so*")):
        if library.is_symlink():
            continue
        data = library.read_bytes()
        try:
            smaller = compacted(data)
        except ValueError:
            continue
        if len(data) - len(smaller) >= MIN_SAVED:
            library.write_bytes(smaller)
            saved += len(data) - len(smaller)
    print(f"compact: {saved / 1e6:.0f} MB of zeros taken out")


if __name__ == "__main__":
    main()
