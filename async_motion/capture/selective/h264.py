"""The QP of an H.264 frame, read from its first slice header without decoding.

A packet's size alone says little at a constant bit rate: when more happens, the QP rises and the packets stay
as large as before. Size and QP together measure how much there was to encode: six QP steps roughly halve the
bytes.

Fields have their names from ISO/IEC 14496-10 (ITU-T H.264), 7.3.2 and 7.3.3. Only those up to
`slice_qp_delta` are parsed, from the first bytes of a packet. A stream that uses what is not parsed (scaling
lists, separate colour planes, slice groups), or is damaged, has no QP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

NAL_SLICE, NAL_IDR, NAL_SPS, NAL_PPS = 1, 5, 7, 8
"""Values of nal_unit_type."""

SLICE_P, SLICE_I = 0, 2
"""Values of slice_type, modulo 5."""

HEAD_BYTES = 64
"""Bytes of a NAL unit that are read: what is parsed of a slice or a parameter set is shorter."""
SCANNED_BYTES = 4096
"""Bytes of a packet that are searched for start codes: parameter sets and SEI take a few hundred."""
MAX_NAL_UNITS = 16
MAX_REF_IDX = 32
QP_RANGE = range(-36, 52)
"""SliceQP(Y) for samples of 8 to 14 bits."""
HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128})
"""Values of profile_idc whose SPS has chroma_format_idc."""


class BitReader:
    """Reads an RBSP bit by bit, with the descriptors of the standard. Raises ValueError at its end."""

    def __init__(self, nal_unit: bytes) -> None:
        rbsp = nal_unit.replace(b"\x00\x00\x03", b"\x00\x00")  # without emulation_prevention_three_byte
        self._value = int.from_bytes(rbsp, "big")
        self._left = len(rbsp) * 8

    def u(self, bits: int) -> int:
        """Return an unsigned number of `bits` bits."""
        self._left -= bits
        if self._left < 0:
            raise ValueError("the NAL unit is truncated")
        return (self._value >> self._left) & ((1 << bits) - 1)

    def ue(self) -> int:
        """Return an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Return a signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sps:
    """The fields of seq_parameter_set_data() that a slice header depends on.

    `pic_order_cnt_lsb_bits` is None if the header has no pic_order_cnt_lsb. `chroma_array_type` 0 is grey.
    """

    frame_num_bits: int
    pic_order_cnt_lsb_bits: int | None
    frame_mbs_only_flag: bool
    chroma_array_type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pps:
    """The fields of pic_parameter_set_rbsp() that a slice header depends on."""

    entropy_coding_mode_flag: bool
    bottom_field_pic_order_in_frame_present_flag: bool
    num_ref_idx_l0_default_active: int
    weighted_pred_flag: bool
    pic_init_qp: int
    redundant_pic_cnt_present_flag: bool


class QpReader:
    """Reads the QP of one stream's frames. `extradata` is the codec configuration from the container."""

    def __init__(self, extradata: bytes | None) -> None:
        self._sps: Sps | None = None
        self._pps: Pps | None = None
        self._length_size = 0
        """Bytes of the length before each NAL unit (AVCC); 0: start codes separate them (Annex B)."""
        if extradata and extradata[0] == 1 and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            for nal_unit in _in_avcc(extradata):
                self._learn(nal_unit)
        elif extradata:
            for nal_unit in _in_annex_b(extradata):
                self._learn(nal_unit)

    def of(self, packet: bytes | memoryview) -> int | None:
        """Return the QP (`QP_RANGE`, 0..51 for 8 bits) of a packet's first slice; None if it is unknown."""
        nal_units = _length_prefixed(packet, self._length_size) if self._length_size else _in_annex_b(packet)
        for nal_unit in nal_units:
            nal_unit_type = nal_unit[0] & 31
            if nal_unit_type in (NAL_SPS, NAL_PPS):
                self._learn(nal_unit)
            elif nal_unit_type in (NAL_SLICE, NAL_IDR):
                try:
                    return self._slice_qp(nal_unit)
                except ValueError:
                    return None
        return None

    def _learn(self, nal_unit: bytes) -> None:
        nal_unit_type = nal_unit[0] & 31
        try:
            if nal_unit_type == NAL_SPS:
                self._sps = _sps_of(BitReader(nal_unit))
            elif nal_unit_type == NAL_PPS:
                self._pps = _pps_of(BitReader(nal_unit))
        except ValueError:
            self._sps = self._pps = None

    def _slice_qp(self, nal_unit: bytes) -> int | None:
        """Parse slice_header() up to slice_qp_delta."""
        sps, pps = self._sps, self._pps
        if sps is None or pps is None:
            return None
        bits = BitReader(nal_unit)
        header = bits.u(8)
        nal_ref_idc, is_idr = header >> 5 & 3, header & 31 == NAL_IDR
        bits.ue()  # first_mb_in_slice
        slice_type = bits.ue() % 5
        bits.ue()  # pic_parameter_set_id
        bits.u(sps.frame_num_bits)
        if not sps.frame_mbs_only_flag and bits.u(1):  # field_pic_flag
            bits.u(1)  # bottom_field_flag
        if is_idr:
            bits.ue()  # idr_pic_id
        if sps.pic_order_cnt_lsb_bits is not None:
            bits.u(sps.pic_order_cnt_lsb_bits)
            if pps.bottom_field_pic_order_in_frame_present_flag:
                bits.se()  # delta_pic_order_cnt_bottom
        if pps.redundant_pic_cnt_present_flag:
            bits.ue()  # redundant_pic_cnt
        if slice_type == SLICE_P:
            _skip_ref_lists(bits, sps, pps)
        elif slice_type != SLICE_I:
            return None  # The size of a B slice is not comparable with that of others.
        if nal_ref_idc:
            _skip_dec_ref_pic_marking(bits, is_idr)
        if pps.entropy_coding_mode_flag and slice_type != SLICE_I:
            bits.ue()  # cabac_init_idc
        qp = pps.pic_init_qp + bits.se()  # slice_qp_delta
        return qp if qp in QP_RANGE else None


def _skip_ref_lists(bits: BitReader, sps: Sps, pps: Pps) -> None:
    """Skip num_ref_idx_active_override, ref_pic_list_modification() and pred_weight_table() of a P slice."""
    overridden = bits.u(1)  # num_ref_idx_active_override_flag
    num_ref_idx = bits.ue() + 1 if overridden else pps.num_ref_idx_l0_default_active
    if num_ref_idx > MAX_REF_IDX:
        raise ValueError("more references than the standard allows")
    if bits.u(1):  # ref_pic_list_modification_flag_l0
        end = 3
        while bits.ue() != end:  # modification_of_pic_nums_idc
            bits.ue()
    if pps.weighted_pred_flag:
        bits.ue()  # luma_log2_weight_denom
        if sps.chroma_array_type:
            bits.ue()  # chroma_log2_weight_denom
        for _ in range(num_ref_idx):
            if bits.u(1):  # luma_weight_l0_flag
                bits.se(), bits.se()
            if sps.chroma_array_type and bits.u(1):  # chroma_weight_l0_flag
                for _ in range(4):
                    bits.se()


def _skip_dec_ref_pic_marking(bits: BitReader, is_idr: bool) -> None:
    if is_idr:
        bits.u(2)  # no_output_of_prior_pics_flag, long_term_reference_flag
    elif bits.u(1):  # adaptive_ref_pic_marking_mode_flag
        while operation := bits.ue():  # memory_management_control_operation
            if operation != 5:
                bits.ue()
            if operation == 3:
                bits.ue()


def _sps_of(bits: BitReader) -> Sps:
    bits.u(8)  # the NAL unit's header
    profile_idc = bits.u(8)
    bits.u(16)  # constraint flags, level_idc
    bits.ue()  # seq_parameter_set_id
    chroma_format_idc = 1
    if profile_idc in HIGH_PROFILES:
        chroma_format_idc = bits.ue()
        if chroma_format_idc == 3:
            raise ValueError("colour planes may be separate")
        bits.ue()  # bit_depth_luma_minus8
        bits.ue()  # bit_depth_chroma_minus8
        bits.u(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.u(1):  # seq_scaling_matrix_present_flag
            raise ValueError("scaling lists")
    frame_num_bits = bits.ue() + 4  # log2_max_frame_num_minus4
    pic_order_cnt_type = bits.ue()
    if pic_order_cnt_type == 1:
        raise ValueError("pic_order_cnt_type 1")
    lsb_bits = bits.ue() + 4 if pic_order_cnt_type == 0 else None  # log2_max_pic_order_cnt_lsb_minus4
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    bits.ue()  # pic_width_in_mbs_minus1
    bits.ue()  # pic_height_in_map_units_minus1
    return Sps(
        frame_num_bits=frame_num_bits,
        pic_order_cnt_lsb_bits=lsb_bits,
        frame_mbs_only_flag=bool(bits.u(1)),
        chroma_array_type=chroma_format_idc,
    )


def _pps_of(bits: BitReader) -> Pps:
    bits.u(8)  # the NAL unit's header
    bits.ue()  # pic_parameter_set_id
    bits.ue()  # seq_parameter_set_id
    entropy_coding_mode_flag, bottom_field_present = bool(bits.u(1)), bool(bits.u(1))
    if bits.ue():  # num_slice_groups_minus1
        raise ValueError("slice groups")
    num_ref_idx_l0 = bits.ue() + 1  # num_ref_idx_l0_default_active_minus1
    bits.ue()  # num_ref_idx_l1_default_active_minus1
    weighted_pred_flag = bool(bits.u(1))
    bits.u(2)  # weighted_bipred_idc
    pic_init_qp = 26 + bits.se()  # pic_init_qp_minus26
    bits.se()  # pic_init_qs_minus26
    bits.se()  # chroma_qp_index_offset
    bits.u(2)  # deblocking_filter_control_present_flag, constrained_intra_pred_flag
    return Pps(
        entropy_coding_mode_flag=entropy_coding_mode_flag,
        bottom_field_pic_order_in_frame_present_flag=bottom_field_present,
        num_ref_idx_l0_default_active=num_ref_idx_l0,
        weighted_pred_flag=weighted_pred_flag,
        pic_init_qp=pic_init_qp,
        redundant_pic_cnt_present_flag=bool(bits.u(1)),
    )


def _in_avcc(extradata: bytes) -> Iterator[bytes]:
    """Yield the first bytes of each parameter set in an AVCDecoderConfigurationRecord.

    See ISO/IEC 14496-15, 5.3.3.
    """
    at = 5
    for mask in (31, 255):  # numOfSequenceParameterSets, numOfPictureParameterSets
        if at >= len(extradata):
            return
        count, at = extradata[at] & mask, at + 1
        for _ in range(min(count, MAX_NAL_UNITS)):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if nal_unit := extradata[at + 2 : at + 2 + min(size, HEAD_BYTES)]:
                yield nal_unit
            at += 2 + size


def _length_prefixed(packet: bytes | memoryview, length_size: int) -> Iterator[bytes]:
    """Yield the first bytes of a packet's NAL units, which follow their lengths."""
    at = 0
    for _ in range(MAX_NAL_UNITS):
        start = at + length_size
        if start >= len(packet):
            return
        size = int.from_bytes(packet[at:start], "big")
        if nal_unit := bytes(packet[start : start + min(size, HEAD_BYTES)]):
            yield nal_unit
        at = start + size


def _in_annex_b(packet: bytes | memoryview) -> Iterator[bytes]:
    """Yield the first bytes of the NAL units at a packet's beginning, separated by start codes."""
    beginning = bytes(packet[:SCANNED_BYTES])
    at = beginning.find(b"\x00\x00\x01")
    for _ in range(MAX_NAL_UNITS):
        if at < 0 or at + 3 >= len(beginning):
            return
        following = beginning.find(b"\x00\x00\x01", at + 3)
        end = len(beginning) if following < 0 else following
        yield beginning[at + 3 : min(end, at + 3 + HEAD_BYTES)]
        at = following
