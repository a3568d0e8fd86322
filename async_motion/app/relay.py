"""Pass one camera's observations on until it is abandoned."""

from __future__ import annotations

from async_motion.camera.unit import Observer, Viewer
from async_motion.core.model import Detection, Frame, MotionEvent, SceneChange


class ObserverRelay:
    """Passes the observations of one camera on to `observer` until `close`.

    A camera that does not stop in time is abandoned, and may have a successor of the same name. What the old
    one still reports must not overwrite the successor's state.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._open = True
        self._zones: set[str] = set()
        """The zones with motion."""

    def close(self, camera: str, problem: str) -> None:
        """Report the camera as offline for `problem`, without motion; pass on nothing from then on."""
        for zone in sorted(self._zones):
            self._observer.zone_motion(camera, zone, on=False)
        self._observer.motion(camera, on=False)
        self._observer.camera_offline(camera, problem)
        self._open = False

    def viewer(self, viewer: Viewer) -> Viewer:
        """Return a viewer that passes judged frames on to `viewer` until `close`."""

        def judged(frame: Frame, detection: Detection) -> None:
            if self._open:
                viewer(frame, detection)

        return judged

    def camera_online(self, camera: str) -> None:
        if self._open:
            self._observer.camera_online(camera)

    def camera_offline(self, camera: str, problem: str) -> None:
        if self._open:
            self._observer.camera_offline(camera, problem)

    def motion(self, camera: str, on: bool) -> None:
        if self._open:
            self._observer.motion(camera, on)

    def zone_motion(self, camera: str, zone: str, on: bool) -> None:
        if self._open:
            self._zones = self._zones | {zone} if on else self._zones - {zone}
            self._observer.zone_motion(camera, zone, on)

    def detected(self, camera: str, detection: Detection) -> None:
        if self._open:
            self._observer.detected(camera, detection)

    def scene_changed(self, camera: str, kind: SceneChange) -> None:
        if self._open:
            self._observer.scene_changed(camera, kind)

    def event_started(self, event: MotionEvent) -> None:
        if self._open:
            self._observer.event_started(event)

    def event_ended(self, event: MotionEvent) -> None:
        if self._open:
            self._observer.event_ended(event)

    def dropped(self, camera: str, reason: str, count: int) -> None:
        if self._open:
            self._observer.dropped(camera, reason, count)

    def problem(self, camera: str, problem: str | None) -> None:
        if self._open:
            self._observer.problem(camera, problem)
