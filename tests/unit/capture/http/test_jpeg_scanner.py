"""JPEGs cut out of arbitrary bytes: whole ones are returned unchanged, damaged ones are reported."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.capture.http.jpeg_scanner import JpegScanner, TooLong
from tests.support.video import ground


def jpeg(seed: int = 1, *, progressive: bool = False, grey: bool = False) -> bytes:
    image = ground(160, 120, seed=seed)
    if grey:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint8)
    done, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)))
    assert done
    return data.tobytes()


WHOLE = jpeg()
OTHER = jpeg(2)


def with_thumbnail(data: bytes) -> bytes:
    """Return the JPEG `data` with another one as its EXIF thumbnail, SOI and EOI included."""
    body = b"Exif\0\0" + OTHER
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2) + body + data[2:]


def scan(data: bytes, step: int = 1 << 20) -> list[bytes | None]:
    scanner = JpegScanner()
    return [one for start in range(0, len(data), step) for one in scanner.feed(data[start : start + step])]


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(WHOLE, id="baseline"),
        pytest.param(jpeg(progressive=True), id="progressive"),
        pytest.param(jpeg(grey=True), id="grey"),
        pytest.param(with_thumbnail(WHOLE), id="thumbnail"),
        pytest.param(WHOLE[:2] + b"\xff\xff" + WHOLE[2:], id="fill bytes"),
    ],
)
def test_a_whole_jpeg_comes_out_as_it_was(data: bytes, step: int) -> None:
    junk = b"\r\n--frame\r\nContent-Length: 3\r\n\r\n\xff\xaa\xff"
    assert scan(junk + data + junk + data + data, step) == [data, data, data]


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_one_that_breaks_off_is_damaged_and_the_next_is_whole(step: int) -> None:
    cut = WHOLE[: len(WHOLE) * 6 // 10]
    assert scan(cut + b"\r\n--frame\r\n\r\n" + OTHER, step) == [None, OTHER]
    assert scan(cut + bytes(5000) + b"\r\n--frame\r\n\r\n" + OTHER, step) == [None, OTHER]


def test_one_that_breaks_off_in_its_tables_is_damaged() -> None:
    found = scan(WHOLE[:300] + b"\r\n--frame\r\n\r\n" + OTHER + OTHER + OTHER)
    assert None in found
    assert found[-1] == OTHER


def without_tables(data: bytes) -> bytes:
    """Return the JPEG `data` without its quantisation tables."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        kept += b"" if data[at + 1] == 0xDB else data[at:end]
        at = end
    return kept + data[at:]


def test_tables_may_come_once_but_must_come() -> None:
    bare = without_tables(OTHER)
    assert len(bare) < len(OTHER)
    assert scan(bare + WHOLE + bare) == [None, WHOLE, bare]


def test_tables_of_a_dropped_jpeg_do_not_count() -> None:
    """The decoder never sees them."""
    bare = without_tables(OTHER)
    cut = WHOLE[: len(WHOLE) * 6 // 10]
    assert scan(cut + bare) == [None, None]
    assert scan(cut + WHOLE + bare) == [None, WHOLE, bare]


def test_empty_parts_are_nothing() -> None:
    assert scan(b"--frame\r\nContent-Length: 0\r\n\r\n\r\n" * 3 + WHOLE) == [WHOLE]


def test_soi_and_eoi_alone_are_not_a_jpeg() -> None:
    assert scan(b"\xff\xd8\xff\xd9") == [None]


def test_what_never_ends_is_bounded() -> None:
    scanner = JpegScanner(max_bytes=len(WHOLE))
    assert list(scanner.feed(WHOLE[:-100])) == []
    with pytest.raises(TooLong):
        list(scanner.feed(bytes(10_000)))
    quiet = JpegScanner(max_bytes=10_000)
    for _ in range(100):
        assert list(quiet.feed(bytes(1000))) == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize("step", [1 << 14, 1 << 20])
@pytest.mark.parametrize(
    "at",
    [
        pytest.param(2, id="before the first segment"),
        pytest.param(WHOLE.index(b"\xff\xda"), id="before the scan"),
        pytest.param(len(WHOLE) - 2, id="in the scan"),
    ],
)
def test_fill_bytes_are_read_once(at: int, step: int) -> None:
    """A search that begins again at each of them stops the service for minutes, as it holds the GIL."""
    padded = WHOLE[:at] + b"\xff" * (1 << 20) + WHOLE[at:]
    assert scan(padded + OTHER, step) == [padded, OTHER]


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=50), st.just(WHOLE), st.just(WHOLE[:900])), max_size=6), st.data()
)
def test_the_pieces_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    step = data.draw(st.integers(1, max(1, len(whole))))
    assert scan(whole, step) == scan(whole)
