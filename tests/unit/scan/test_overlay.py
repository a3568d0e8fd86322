from __future__ import annotations

from async_motion.core.model import Box, Detection, Frame, Reason
from async_motion.scan.overlay import OverlayNotes
from tests.support.frames import make_frame

STILL = Detection(motion=False, reason=Reason.STILL)
MOTION = Detection(motion=True, reason=Reason.MOTION, boxes=(Box(0, 0, 1, 1),))


def test_a_verdict_is_in_force_until_the_next_one() -> None:
    notes = OverlayNotes()
    for at, detection in ((0.0, STILL), (0.2, STILL), (0.4, MOTION), (0.6, STILL), (0.8, STILL)):
        notes.note(at, detection)
    assert notes.at(0.3) is None
    assert notes.at(0.4) is MOTION
    assert notes.at(0.59) is MOTION
    assert notes.at(0.6) is None
    assert notes.at(9.0) is None


def test_a_viewer_is_told_all_the_same() -> None:
    seen: list[tuple[Frame, Detection]] = []
    notes = OverlayNotes()
    frame = make_frame()
    notes.and_then(lambda frame, detection: seen.append((frame, detection)))(frame, MOTION)
    assert seen == [(frame, MOTION)]
    assert notes.at(frame.monotonic) is MOTION
