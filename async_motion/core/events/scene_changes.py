"""One change of the scene is told once, though the detector holds back every frame that it takes.

verdicts   still, scene_change, scene_change, still …     told with the first frame that is judged again
           still, scene_change, motion …                  a guess that was wrong: a thing filled the frame
"""

from __future__ import annotations

from async_motion.core.model import Detection, Reason, SceneChange


class SceneChanges:
    """Follows one camera's verdicts."""

    def __init__(self) -> None:
        self._kind: SceneChange | None = None
        self._frames = 0

    def update(self, detection: Detection) -> SceneChange | None:
        """Take the next verdict; return the kind of a change that is over and certain."""
        if detection.scene_change is not None:
            self._kind = detection.scene_change
            self._frames += 1
            return None
        kind, frames = self._kind, self._frames
        self._kind, self._frames = None, 0
        moves = detection.reason in (Reason.MOTION, Reason.DEBOUNCE)
        # An exposure step is certain at once: a line explains it.
        guess = frames == 1 and kind is not SceneChange.EXPOSURE
        return None if guess and moves else kind
