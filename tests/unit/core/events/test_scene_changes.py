"""A scene change is reported once."""

from __future__ import annotations

import pytest

from async_motion.core.events.scene_changes import SceneChanges
from async_motion.core.model import Detection, Reason, SceneChange

STILL = Detection(motion=False, reason=Reason.STILL)
MOTION = Detection(motion=True, reason=Reason.MOTION, score=0.1)
LIGHT, MOVED, EXPOSURE = (
    Detection(motion=False, reason=Reason.SCENE_CHANGE, scene_change=kind)
    for kind in (SceneChange.LIGHT, SceneChange.MOVED, SceneChange.EXPOSURE)
)


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([STILL, MOTION, STILL], []),
        ([STILL, LIGHT, LIGHT, STILL, STILL], [SceneChange.LIGHT]),
        ([STILL, MOVED, LIGHT, STILL], [SceneChange.LIGHT]),
        ([STILL, LIGHT, LIGHT, MOTION], [SceneChange.LIGHT]),
        ([STILL, LIGHT, MOTION, STILL], []),
        ([STILL, EXPOSURE, MOTION], [SceneChange.EXPOSURE]),
        ([STILL, MOVED, STILL, LIGHT, LIGHT, STILL], [SceneChange.MOVED, SceneChange.LIGHT]),
    ],
)
def test_a_change_is_told_once_and_no_wrong_guess(verdicts: list[Detection], told: list[SceneChange]) -> None:
    changes = SceneChanges()
    assert [kind for verdict in verdicts if (kind := changes.update(verdict)) is not None] == told
