"""compact.py: a library with megabytes of padding becomes small, loads, and has the same memory."""

from __future__ import annotations

import ctypes
import importlib.util
import runpy
import struct
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docker/processor/compact.py"
compact = runpy.run_path(str(SCRIPT))
compacted, HEADER, SEGMENT, LOAD = (compact[name] for name in ("compacted", "HEADER", "SEGMENT", "LOAD"))
PADDING = 2 << 20
"""To what patchelf aligns each segment."""


def library() -> bytes:
    """Return a small extension module, which has several segments."""
    spec = importlib.util.find_spec("markupsafe._speedups")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_bytes()


def segments(data: bytes) -> list[tuple[int, ...]]:
    """Return the program headers as SEGMENT describes them."""
    phoff, *_, phentsize, count, _, _, _ = HEADER.unpack_from(data, 32)
    return [SEGMENT.unpack_from(data, phoff + number * phentsize) for number in range(count)]


def padded(data: bytes) -> bytes:
    """Return the library with PADDING before each segment but the first, as patchelf writes it."""
    phoff, *_, phentsize, _, _, _, _ = HEADER.unpack_from(data, 32)
    loads = [segment for segment in segments(data) if segment[0] == LOAD]
    made, moved = bytearray(), []
    for number, (_, _, offset, _, _, size, _, _) in enumerate(loads):
        to = offset + number * PADDING
        made.extend(bytes(to - len(made)))
        made += data[offset : offset + size]
        moved.append((offset, size, to - offset))
    for number, (kind, mode, offset, *rest) in enumerate(segments(data)):
        by = next((by for start, size, by in moved if start <= offset < start + size), 0)
        SEGMENT.pack_into(made, phoff + number * phentsize, kind, mode, offset + by, *rest)
    return bytes(made)


def memory(data: bytes) -> dict[int, bytes]:
    """Return what each loaded segment holds, by its address."""
    found = {}
    for kind, _, offset, address, _, size, _, _ in segments(data):
        if kind == LOAD:
            content = bytearray(data[offset : offset + size])
            if offset == 0:  # the ELF header and the program headers, which are what changes
                phoff, *_, phentsize, count, _, _, _ = HEADER.unpack_from(data, 32)
                content[: phoff + phentsize * count] = b""
            found[address] = bytes(content)
    return found


def test_padding_goes_and_the_memory_stays(tmp_path: Path) -> None:
    before = padded(library())
    assert len(before) > 3 * PADDING
    after = compacted(before)
    assert len(after) < 1 << 20
    assert memory(after) == memory(before)
    for kind, _, offset, address, _, _, _, align in segments(after):
        if kind == LOAD:
            assert (offset - address) % align == 0, "the loader maps whole pages"
    path = tmp_path / "speedups.so"
    path.write_bytes(after)
    assert hasattr(ctypes.PyDLL(str(path)), "PyInit__speedups")


def test_compacting_again_saves_nothing() -> None:
    once = compacted(padded(library()))
    assert len(compacted(once)) == len(once)


@pytest.mark.parametrize(
    "data", [b"", b"/* a linker script */", b"\x7fELF\x01\x01" + bytes(64), b"\x7fELF\x02\x02" + bytes(64)]
)
def test_any_other_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no 64-bit little-endian ELF"):
        compacted(data)


def test_a_header_that_lies_in_no_segment_is_refused() -> None:
    data = bytearray(library())
    struct.pack_into("<Q", data, 32, len(data) - 64 * 16)
    with pytest.raises((ValueError, struct.error)):
        compacted(bytes(data))


def test_only_a_library_that_gets_much_smaller_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.so").write_bytes(padded(library()))
    (tmp_path / "small.so").write_bytes(library())
    (tmp_path / "script.so").write_text("GROUP ( libc.so.6 )")
    (tmp_path / "link.so.1").symlink_to("large.so")
    monkeypatch.setattr("sys.argv", ["compact.py", str(tmp_path)])
    compact["main"]()
    assert (tmp_path / "large.so").stat().st_size < 1 << 20
    assert (tmp_path / "small.so").read_bytes() == library()
    assert (tmp_path / "script.so").read_text() == "GROUP ( libc.so.6 )"
    assert (tmp_path / "link.so.1").is_symlink()
    assert "MB of zeros taken out" in capsys.readouterr().out
