"""The QP in a slice header: read as the encoder wrote it, and no crash on any bytes."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_motion.capture.selective.activity import PacketActivity
from async_motion.capture.selective.h264 import QpReader
from tests.support.video import scene, write_clip

SIZE = (160, 120)


def clip(folder: Path, suffix: str, **options: str) -> Path:
    images = scene(seconds=2, fps=10, size=SIZE, noise=2.0)
    return write_clip(folder / f"clip{suffix}", images, gop=10, options=options)


def qps_of(path: Path) -> list[int | None]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        qps = QpReader(stream.codec_context.extradata)
        return [qps.of(bytes(packet)) for packet in container.demux(stream) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".h264"])
@pytest.mark.parametrize(
    "options",
    [
        {"profile": "baseline"},
        {"preset": "veryfast"},
        {"preset": "veryfast", "weightp": "2", "refs": "3"},
        {"preset": "veryfast", "slices": "4"},
    ],
    ids=lambda options: "-".join(options.values()),
)
@pytest.mark.parametrize("qp", [20, 37])
def test_a_constant_qp_is_read_from_every_frame(
    tmp_path: Path, suffix: str, options: dict[str, str], qp: int
) -> None:
    path = clip(tmp_path, suffix, qp=str(qp), **options)
    found = qps_of(path)
    assert len(found) == 20
    between = [one for number, one in enumerate(found) if number % 10]
    assert set(between) == {qp}
    # x264's ipratio of 1.4 gives keyframes a QP lower by 3.
    assert set(found[::10]) == {qp - 3}


def test_a_frame_predicted_from_both_sides_has_no_answer(tmp_path: Path) -> None:
    path = clip(tmp_path, ".mp4", qp="25", bf="2", preset="veryfast", tune="film", b_adapt="0")
    assert None in qps_of(path)


def test_without_parameters_nothing_is_told(tmp_path: Path) -> None:
    with av.open(str(clip(tmp_path, ".mp4"))) as container:
        packet = next(container.demux(video=0))
        assert QpReader(None).of(bytes(packet)) is None


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_whatever_comes_is_survived(extradata: bytes, packet: bytes) -> None:
    for beginning in (b"", b"\x01", b"\x00\x00\x01\x67", b"\x00\x00\x01\x68"):
        qps = QpReader(beginning + extradata)
        for kind in (b"", b"\x00\x00\x01\x41", b"\x00\x00\x01\x65", b"\x00\x00\x00\x20\x41"):
            answer = qps.of(kind + packet)
            assert answer is None or isinstance(answer, int)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_header_is_survived(data: st.DataObject) -> None:
    # Valid SPS and PPS, so that parsing reaches the slice header.
    sound = bytes.fromhex("0000000167640015acd9405005bb0110000003001000000303c8f14299600000000168ebecb22c")
    qps = QpReader(sound)
    kind, rest = data.draw(st.sampled_from([b"\x41", b"\x65"])), data.draw(st.binary(max_size=70))
    answer = qps.of(b"\x00\x00\x01" + kind + rest)
    assert answer is None or isinstance(answer, int)


def bits(*fields: str) -> bytes:
    """Return fields of an RBSP, each in binary, with the stop bit."""
    text = "".join(fields) + "1"
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8))


def ue(value: int) -> str:
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)


def avcc(pic_init_qp_minus26: int) -> bytes:
    sps = b"\x67\x42\x00\x1e" + bits(ue(0), ue(0), ue(2), ue(1), "0", ue(3), ue(2), "1")
    se = ue(2 * abs(pic_init_qp_minus26) - (pic_init_qp_minus26 > 0))
    pps = b"\x68" + bits(ue(0), ue(0), "00", ue(0), ue(0), ue(0), "000", se, ue(0), ue(0), "000")
    head = b"\x01\x42\x00\x1e\xff\xe1"
    return head + len(sps).to_bytes(2) + sps + b"\x01" + len(pps).to_bytes(2) + pps


@pytest.mark.parametrize(
    ("pic_init_qp_minus26", "qp"),
    [(0, 26), (25, 51), (-62, -36), (26, None), (-63, None), (2**200, None), (-(2**1100), None)],
    ids=["26", "51", "-36", "52", "-37", "2^200", "-2^1100"],
)
def test_a_qp_beyond_the_standard_is_unknown(pic_init_qp_minus26: int, qp: int | None) -> None:
    """A number that no float holds would end the service where packets are weighed."""
    idr = b"\x65" + bits(ue(0), ue(7), ue(0), "0000", ue(0), "00", ue(0))
    found = QpReader(avcc(pic_init_qp_minus26)).of(len(idr).to_bytes(4) + idr)
    assert found == qp
    PacketActivity(25.0).key(1000, found)
