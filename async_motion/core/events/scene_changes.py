"""Report a scene change once, although the detector flags every frame of it.

verdicts   still, scene_change, scene_change, still …     reported with the first frame that is judged again
           still, scene_change, motion …                  not reported: an object filled the frame
"""

from __future__ import annotations

from async_motion.core.model import Detection, Reason, SceneChange


class SceneChanges:
    """Follows one camera's verdicts."""

    def __init__(self) -> None:
        self._kind: SceneChange | None = None
        self._frames = 0

    def update(self, detection: Detection) -> SceneChange | None:
        """Take the next verdict; return the kind of a change once it is over and confirmed."""
        if detection.scene_change is not None:
            self._kind = detection.scene_change
            self._frames += 1
            return None
        kind, frames = self._kind, self._frames
        self._kind, self._frames = None, 0
        moves = detection.reason in (Reason.MOTION, Reason.DEBOUNCE)
        # An exposure step is certain at once: a gain and an offset explain it.
        guess = frames == 1 and kind is not SceneChange.EXPOSURE
        return None if guess and moves else kind
