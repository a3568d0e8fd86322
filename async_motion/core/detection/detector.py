"""luma -> Detection: what moved in front of one fixed camera, and why we think so.

    luma ─reduce─▶ image ─undo shake, undo light─▶ distance to the background ─▶ mask ─▶ regions ─▶ verdict
                                                          ▲                                     │
                                                          └──── learn where nothing moves ◀─────┘

Each part has its own module: `working_image` (reduction), `alignment` (shake), `scene` (light, steps),
`local_light` (lamps), `background` (the model), `look` (thresholds), `shadows`, `regions`, `areas` (what is
large enough), `evidence` (the verdict on a region), `swaying` (ground that moves), `tracks` (what moves, and
what stays), `confirmed` (where weaker evidence is enough), `undecided` (what is not learned yet), `burnt_in`
(text), `spent` (places), `zones`.
Pure arithmetic on arrays: no clock, no file, no randomness; the same frames give the same verdicts. Every
time constant is in seconds of `monotonic`, so that 5 and 30 frames a second behave alike.

The README beside this module describes what was tried, with figures.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.alignment import STEADY, Shift, shifted
from async_motion.core.detection.areas import FEWEST_PIXELS, Areas
from async_motion.core.detection.background import HOLDS_S, Background
from async_motion.core.detection.burnt_in import BurntInText
from async_motion.core.detection.confirmed import Places
from async_motion.core.detection.evidence import IN_PLACE_S, KEPT_SHARE, Evidence, Scene
from async_motion.core.detection.local_light import find_local_light
from async_motion.core.detection.look import Look, Thresholds
from async_motion.core.detection.packing import pack, unpack
from async_motion.core.detection.regions import Regions, Unrest, clean, labels, some
from async_motion.core.detection.scene import Jump, Jumps, Light, find_light, kind_of, samples_of
from async_motion.core.detection.screens import Screens
from async_motion.core.detection.settings import DetectorSettings
from async_motion.core.detection.spent import Spent
from async_motion.core.detection.swaying import swaying
from async_motion.core.detection.tracks import Tracks, standing, stirring, stirring_for_good
from async_motion.core.detection.undecided import Undecided
from async_motion.core.detection.working_image import Plane, grown, u8, working_image, working_size
from async_motion.core.detection.zones import Polygon, Zone
from async_motion.core.model import Box, Detection, Luma, Reason, SceneChange
from async_motion.core.options import Sensitivity
from async_motion.errors import FrameShapeError

__all__ = ["Detector", "DetectorSettings", "Polygon", "Sensitivity", "Zone"]

_STILL_DIFFERENT, _UNEXPLAINED = 0.2, 0.15
_AFTER_LEAP_S = 0.5
_LEAPT = 0.7
_FOLLOW_LIGHT_S = 8.0
_FOLLOW_SHIFT_S, _LASTING_SHIFT = 10.0, 2.0
_PAST_S, _PAST_STEP_S = 0.5, 0.25
"""Up to `_MOMENTS` images are remembered, `_PAST_STEP_S` apart; the past is at least `_PAST_S` ago."""
_MOMENTS = 6
"""So many images tell what stirs from drops and flakes, which one of them shows."""
_SETTLES_S, _RENEWED_S, _LEAPS_APART_S = 0.75, 2.0, 4.0
"""For the first time after a leap nothing stirs, since the images that are compared show the leap. The second
time is for a keyframe of a low bit rate: it renews all edges, and the next frames let them fade. A leap that
comes within the third time of the last one that counted does not count."""
_ASKED_SHARE, _ASKED_S = 0.05, 60.0
"""Once a local light has been followed, every change of the first share of the image is asked for that light,
for the second time: lights flicker and fade."""
_SPECK = np.ones((3, 3), np.uint8)
"""What is smaller is no patch of light."""
_LONGEST_STEP_S = 0.5
_IN_PLACE_FORGOTTEN_S = 3600.0
"""Motion that did not come from elsewhere is remembered in its place for this long."""
_LASTING_SPENDS = 1.0 / 3.0
"""Where it is motion only because it lasts, this share of its time counts."""
_CONTINUES = 0.3
"""A region of this share of the minimum area continues a track."""
TRUSTED_S = 60.0
"""If a saved state is older, its scene may have changed unseen."""
OLD_S = 12 * 3600.0
"""`restore` refuses a saved state that is older."""
_STATE_VERSION = 1


class _Switch(NamedTuple):
    """A leap of the image: its time, the image then, and the mask of what leapt; None for everything.

    `stood` is the mask of what was kept before and had come from elsewhere; None for nothing. `is_light`:
    whether it is certainly a light, and not an object that has come close.
    """

    at: float
    plane: Plane
    leapt: Plane | None
    stood: Plane | None
    is_light: bool


class _Moment(NamedTuple):
    """An image, and its time."""

    at: float
    plane: Plane


class Detector:
    """Detects motion in the frames of one camera. Not thread-safe: one caller at a time."""

    def __init__(self, settings: DetectorSettings) -> None:
        self.settings = settings
        self.counts: Counter[Reason] = Counter()
        """Frames judged so far, by reason."""
        self._shape: tuple[int, int] | None = None
        self._saved: dict[str, NDArray[np.generic]] | None = None

    @classmethod
    def restore(cls, settings: DetectorSettings, state: bytes, *, away_s: float = 0.0) -> Detector:
        """Return a detector that continues from `state`, taken `away_s` seconds ago.

        After more than `TRUSTED_S` the scene may have changed unseen. For half a second nothing is reported,
        and what differs but does not move becomes background. Raises ValueError when `state` cannot be read
        or is older than `OLD_S`; then start a new detector.
        """
        if away_s > OLD_S:
            raise ValueError(
                f"the saved state is {away_s / 3600:.0f} h old, expected at most {OLD_S / 3600:.0f}"
            )
        detector = cls(settings)
        try:
            arrays = unpack(state)
            version = int(arrays["version"])
            height, width = (int(side) for side in arrays["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("the saved state cannot be read") from error
        if version != _STATE_VERSION:
            raise ValueError(f"the saved state has version {version}, expected {_STATE_VERSION}")
        # A restored state may be saved again before its first frame: keep the longer absence.
        arrays["away"] = np.array(max(away_s, float(arrays.get("away", np.zeros(())))))
        detector._shape, detector._saved = (height, width), arrays
        detector._draw_areas()
        return detector

    def state(self) -> bytes:
        """Return what was learned, for `restore`; empty before the first frame. About 0.5 MB at 1080p."""
        if self._saved is not None:
            arrays = self._saved
        elif self._shape is None:
            return b""
        else:
            arrays = {
                **self._background.state(self._now),
                "unrest": self._unrest.cells,
                "shape": np.array(self._shape),
                "version": np.array(_STATE_VERSION),
            }
        return pack(arrays)

    def update(self, luma: Luma, monotonic: float) -> Detection:
        """Compare `luma` (H, W) uint8 with the background, then learn from it.

        The array is read, never written or kept. The first frame primes the background and scores 0.
        `monotonic` is the frame's time in seconds. Raises FrameShapeError when `luma` is empty or not
        two-dimensional, and when (H, W) changes: then start a new detector.
        """
        if luma.ndim != 2 or min(luma.shape) < 1:
            raise FrameShapeError(f"a luma plane has two dimensions, this array is {luma.shape}")
        if self._shape is not None and luma.shape != self._shape:
            raise FrameShapeError(f"the frames had the shape {self._shape} and now have {luma.shape}")
        plane = working_image(luma)
        if self._shape is None:
            self._shape = (luma.shape[0], luma.shape[1])
            self._draw_areas()
            detection = self._begin(plane, monotonic)
        elif self._saved is not None:
            detection = self._resume(plane, monotonic)
        else:
            detection = self._judge(plane, monotonic)
        self.counts[detection.reason] += 1
        return detection

    @property
    def mask(self) -> Plane:
        """Everything large enough that differed in the last frame, (h, w) uint8 0 or 255, working size.

        Positions are those of the frame as it came, even while the camera shakes. This is the generous mask:
        parts of it may not have been accepted as motion. Shape (1, 1) before the first frame.
        """
        if self._shape is None or self._saved is not None:
            return np.zeros((1, 1), np.uint8)
        back = Shift(-float(round(self._shift.x)), -float(round(self._shift.y)))
        return shifted(self._mask, back) if back else self._mask

    def debug_maps(self) -> dict[str, Plane]:
        """Return the inner state as images by name, (h, w) uint8 at the working size; empty before a frame.

        `mask` is everything large enough that differs, `moving` the part that was accepted as motion.
        `distance` need not be exact where it does not exceed `threshold`.
        """
        if self._shape is None or self._saved is not None:
            return {}
        return {
            "background": self._background.reference.copy(),
            "noise": self._background.noise.copy(),
            "threshold": self._threshold.copy(),
            "unrest": np.clip(self._unrest.plane() * 2000.0, 0, 255).astype(np.uint8),
            "distance": self._distance.copy(),
            "mask": self._mask.copy(),
            "moving": self._moving.copy(),
            "ignored": self._areas.ignored.copy(),
        }

    def _draw_areas(self) -> None:
        """Draw masks, zones and the thresholds of zones at the working size."""
        assert self._shape is not None
        self._areas = Areas(self.settings, working_size(*self._shape))
        self._evidence = Evidence(self.settings, self._areas)

    def _begin(self, plane: Plane, now: float) -> Detection:
        self._learning_until = now + self.settings.learning_s
        self._now = now
        # A clock stays where it is when the scene changes.
        self._text = BurntInText((plane.shape[0], plane.shape[1]), now)
        self._start(plane, now)
        return Detection(motion=False, reason=Reason.LEARNING)

    def _resume(self, plane: Plane, now: float) -> Detection:
        """Judge the first frame after a saved state."""
        assert self._saved is not None
        saved, self._saved = self._saved, None
        self._begin(plane, now)
        self._learning_until = now
        self._background = Background.restored(saved, now)
        self._unrest.cells = np.asarray(saved["unrest"], np.float32)
        self._doubt = float(saved["away"]) > TRUSTED_S
        self._forget_moments()
        # A scene that has changed meanwhile is told from motion like any other jump.
        self._jumps = Jumps(self._background.reference)
        return self._judge(plane, now)

    def _start(self, plane: Plane, now: float) -> None:
        """Learn the scene from `plane` alone."""
        self._background = Background(plane, now)
        self._unrest = Unrest((plane.shape[0], plane.shape[1]))
        self._screens = Screens((plane.shape[0], plane.shape[1]))
        self._tracks = Tracks(self.settings.rest_s, self._areas.watched_cells)
        self._places = Places()
        self._undecided = Undecided(self._unrest)
        self._in_place = Spent(self._unrest.cells.shape, _IN_PLACE_FORGOTTEN_S)
        self._past: _Moment | None = _Moment(now, plane)
        self._moments: deque[_Moment] = deque([self._past], _MOMENTS)
        self._jumps = Jumps(plane)
        self._mask = self._moving = self._distance = nothing = np.zeros_like(plane)
        self._no_regions = Regions(nothing)
        self._shift = STEADY
        self._threshold = self._areas.floor
        self._leap = 0.0
        self._known = True
        self._doubt = False
        self._leapt_at = self._stirs_from = self._followed_at = -math.inf
        self._corrected: Plane | None = None
        self._thresholds = Thresholds(self._areas.floor, self.settings.measures.noise_factor)
        self._switched: _Switch | None = None
        self._leap_until = self._light_since = self._shift_since = now

    def _judge(self, plane: Plane, now: float) -> Detection:
        passed = max(now - self._now, 1e-3)
        self._now = now
        look = self._look(plane, now)
        self._distance, self._threshold = look.distance, look.threshold
        self._shift = look.shift
        age = now - self._background.born
        jump = self._jumps.update(
            plane,
            look.aligned,
            look.light,
            known=self._known,
            passed_s=min(passed, _LONGEST_STEP_S),
            age_s=age,
        )
        self._text.update(plane, self._background, now)
        if (jump.part or jump.whole) and now - self._leapt_at > _LEAPS_APART_S:
            self._leapt_at = now
            self._stirs_from = now + (_RENEWED_S if jump.renewed else _SETTLES_S)
        leaps = (
            jump.part or jump.broken or (jump.share > _ASKED_SHARE and now - self._followed_at <= _ASKED_S)
        )
        followed = leaps and self._follow_local(look)
        if followed:
            self._followed_at, look = now, self._look(plane, now)
        if jump.whole:
            self._switched = self._switch(now, look.corrected, is_light=followed or not jump.broken)
        elif jump.part:
            changed = cv2.absdiff(look.aligned, jump.before)
            leapt = u8(cv2.compare(changed, look.whole_threshold, cv2.CMP_GT))
            self._switched = self._switch(now, look.corrected, leapt, is_light=followed)
        self._corrected, self._known = look.corrected, look.changed < _UNEXPLAINED
        step = self._step(plane, look, jump, now)
        if step is not None:
            self._mask = self._moving = np.zeros_like(plane)
            return replace(self._figures(look, jump, Reason.SCENE_CHANGE), scene_change=step)
        detection = self._verdict(look, jump, now, passed)
        if detection.motion:
            return detection
        if jump.whole and look.light.large:
            return replace(detection, reason=Reason.SCENE_CHANGE, scene_change=SceneChange.EXPOSURE)
        if jump.broken and followed:
            return replace(detection, reason=Reason.SCENE_CHANGE, scene_change=SceneChange.LIGHT)
        return detection

    def _follow_local(self, look: Look) -> bool:
        """Follow a light that has leapt in a part of the image, or unevenly; return whether there was one.

        Only where something is kept that has come from elsewhere: the ground behind it is not seen.
        """
        if self._corrected is None or self._tracks.place_of_travelled() is None:
            return False
        hidden = self._tracks.hidden(look.corrected.shape, self._now)
        light = find_local_light(look.corrected, self._corrected, hidden)
        if light is None:
            return False
        self._background.follow(light)
        self._remember(light.apply_to_image)
        return True

    def _remember(self, convert: Callable[[Plane], Plane]) -> None:
        """Convert the images that are remembered to another light."""
        past = self._past
        moments = [_Moment(moment.at, convert(moment.plane)) for moment in self._moments]
        self._past = next((moment for moment in moments if past and moment.at == past.at), None)
        self._moments = deque(moments, _MOMENTS)
        if self._switched is not None:
            self._switched = self._switched._replace(plane=convert(self._switched.plane))
        if self._corrected is not None:
            self._corrected = convert(self._corrected)

    def _switch(self, now: float, plane: Plane, leapt: Plane | None = None, *, is_light: bool) -> _Switch:
        """Return a leap that is seen in `plane`, before the tracks follow it."""
        return _Switch(now, plane, leapt, self._tracks.place_of_travelled(), is_light)

    def _figures(
        self,
        look: Look,
        jump: Jump,
        reason: Reason,
        *,
        score: float = 0.0,
        boxes: tuple[Box, ...] = (),
        zones: tuple[str, ...] = (),
    ) -> Detection:
        """Return a verdict, with the figures that every verdict contains."""
        height, width = look.corrected.shape
        return Detection(
            motion=reason is Reason.MOTION,
            reason=reason,
            score=score,
            boxes=boxes,
            zones=zones,
            changed=look.changed,
            jump=jump.share,
            noise=self._background.mean_noise,
            gain=look.light.gain,
            offset=look.light.offset,
            shift=(look.shift.x / width, look.shift.y / height),
        )

    def _look(self, plane: Plane, now: float) -> Look:
        """Undo the shake and the light of `plane`, and compare it with the background."""
        background = self._background
        # Light first: a dimmed edge passes for one that has moved.
        light = find_light(samples_of(plane), background.samples)
        shift = background.aligner.shift(light.undo(plane) if light else plane)
        aligned = plane
        if shift:
            aligned = shifted(plane, shift)
            light = find_light(samples_of(aligned), background.samples)
        if not light.large:
            self._light_since = now
        elif now - self._light_since > _FOLLOW_LIGHT_S:
            background.follow(light)
            self._remember(light.apply)
            light, self._light_since = Light(), now
            # Pixels that the old light had clipped to black or white are unknown in the new one.
            self._switched = self._switch(now, aligned, is_light=True)
        corrected = light.undo(aligned) if light else aligned
        # Undoing the light of a dimmed image amplifies its noise.
        dimmed = max(1.0, 1.0 / light.gain)
        levels = self._thresholds.of(background.noise, self._unrest, now - background.born, dimmed)
        threshold, whole = levels.threshold, levels.whole_threshold
        # Below the threshold, only the noise needs the exact distance.
        distance = background.distance(corrected, None if background.teaches_noise(now) else threshold)
        if light:
            distance[light.clipped(aligned, background.reference) > 0] = 0
        differs = u8(cv2.compare(distance, threshold, cv2.CMP_GT))
        # Count specks at the full threshold everywhere: otherwise a calm place would create its own unrest.
        if shift:
            rim = int(np.ceil(max(abs(shift.x), abs(shift.y))))
            differs[:rim] = differs[-rim:] = 0
            differs[:, :rim] = differs[:, -rim:] = 0
        changed = cv2.countNonZero(differs) / differs.size
        stands_out = differs
        if changed:
            stands_out = u8(cv2.compare(distance, whole, cv2.CMP_GT))
            # Away from the rim, what exceeds the whole threshold exceeds the lower one too.
            if shift:
                stands_out = u8(cv2.bitwise_and(stands_out, differs))
        return Look(
            plane,
            aligned,
            corrected,
            shift,
            light,
            distance,
            levels.floor,
            threshold,
            whole,
            differs,
            stands_out,
            changed,
        )

    def _step(self, plane: Plane, look: Look, jump: Jump, now: float) -> SceneChange | None:
        """Return the kind of scene change, or None; learn the new scene once the change is certain."""
        if self._leap:
            calm = jump.calm_after(self._leap)
            if calm and look.changed > _UNEXPLAINED:
                kind = kind_of(look.aligned, self._background.reference)
                self._start(plane, now)
                return kind
            if calm or now > self._leap_until:
                self._leap = 0.0
        elif jump.broken and look.changed > _STILL_DIFFERENT:
            self._leap, self._leap_until = jump.unexplained, now + _AFTER_LEAP_S
            return kind_of(look.aligned, self._background.reference)
        if max(abs(look.shift.x), abs(look.shift.y)) < _LASTING_SHIFT:
            self._shift_since = now
        elif now - self._shift_since > _FOLLOW_SHIFT_S:
            self._start(plane, now)
            return SceneChange.MOVED
        return None

    def _verdict(self, look: Look, jump: Jump, now: float, passed: float) -> Detection:
        background = self._background
        whole, regions = self._regions(look)
        if regions.count == 1:
            return self._figures(look, jump, self._nothing(whole, regions, look, now, passed))
        required = self._areas.required(regions)
        seen = self._seen(regions, look, now)
        kept = self._tracks.kept() & (regions.area >= FEWEST_PIXELS)
        large, left_out = self._candidates(regions, required, kept, look, now)
        fitting = large & (regions.area <= self.settings.max_area * whole.size)
        past = self._past.plane if self._past else look.corrected
        scene = Scene(background, self._unrest, self._tracks, self._in_place, past)
        evident = (
            self._evidence.evident(regions, required, look, fitting, kept, scene)
            if some(fitting)
            else fitting
        )
        real = evident & seen
        lasting = self._lasting(regions, required, look, fitting & seen & ~evident, scene, now)
        glows = self._glows(regions, look, (real & ~kept) | lasting, now)
        no_objects = glows | swaying(
            regions, look, background, self._areas.watched, ((real & ~kept) | lasting) & ~glows
        )
        lasting &= ~no_objects
        real, evident = (real & ~no_objects) | lasting, evident | lasting
        self._spend(regions, real, lasting, passed)
        stirs, stands = real, np.zeros(regions.count, np.bool_)
        if some(real) and self._past:
            stirs = self._stirring(regions, look, past, large)
            restless = real & self._tracks.restless()
            stands = standing(regions, look.corrected, past, look.whole_threshold, restless)
        settled = not background.learning and not self._doubt
        followed = self._followed(regions, required, large, left_out)
        # Asked before the tracks are updated, which sets the time of their last motion to this frame's.
        others = seen & ~real & ~no_objects
        held = self._held(regions, others & fitting & regions.inner, now)
        self._tracks.update(regions, followed, real, stirs, stands, self._unrest, now, settled=settled)
        near = self._places.near(regions, others, now)
        self._places.update(regions, real, now, passed)
        if some(near):
            # Tracks and places follow strong evidence alone.
            weak = self._evidence.weak(
                regions, required, look, near & (large | (regions.inner & (regions.area < required))), scene
            )
            self._places.weaken(regions, weak, now)
            real = real | weak
        real = real | held
        evident = evident | real
        self._mask = regions.mask_of(large | real)
        # Planes are never changed in place, so one may serve as several.
        self._moving, moving = regions.mask_of(real), regions.mask_of(evident)
        undecided = None
        if not look.shift and not look.light:
            undecided = self._undecided.mask(regions, required, ~left_out & ~evident, passed)
            if undecided is not None:
                moving = u8(cv2.bitwise_or(moving, undecided))
        self._learn(
            look, moving, (regions.mask_of(left_out) if some(left_out) else None, undecided), now, passed
        )

        reason = Reason.MOTION
        if self._doubt or now < self._learning_until - 1e-6:
            reason = Reason.LEARNING
        elif not some(real):
            reason = self._why_not(whole, regions, large, fitting)
        if reason is not Reason.MOTION:
            return self._figures(look, jump, reason)
        return self._figures(
            look,
            jump,
            reason,
            score=cv2.countNonZero(self._moving) / self._areas.watched_pixels,
            boxes=_boxes(regions, real, look.shift),
            zones=self._areas.touched(regions, real),
        )

    def _regions(self, look: Look) -> tuple[Plane, Regions]:
        """Return the mask of what differs, cleaned, and the regions of it that are watched."""
        if not look.changed:
            return look.differs, self._no_regions
        known = self._tracks.boxes_of_travelled(look.differs.shape)
        whole, window = clean(look.differs, look.corrected, self._background.reference, known)
        return whole, Regions(u8(cv2.bitwise_and(whole, self._areas.watched)), window)

    def _seen(self, regions: Regions, look: Look, now: float) -> NDArray[np.bool_]:
        """Return which regions were seen before; what may be an insect, only once its track is proven."""
        seen = self._tracks.follow(regions, now)
        unproven = seen & self._tracks.unproven(regions)
        if some(unproven):
            seen &= ~regions.brighter(look.corrected, self._background.reference, unproven)
        return seen

    def _glows(self, regions: Regions, look: Look, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are a glow, or bright and were one a moment ago."""
        if not some(among):
            return among
        background = self._background
        glows = regions.glows(look.corrected, background.reference, background.sharpness, among)
        recently = among & ~glows & self._tracks.glowed(now)
        self._tracks.note_glows(glows, now)
        if some(recently):
            glows |= regions.brighter(look.corrected, background.reference, recently)
        return glows

    def _candidates(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        kept: NDArray[np.bool_],
        look: Look,
        now: float,
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which regions are large enough and may be motion, and which are left out as light or holes.

        Holes, and light that a leap has left, become background.
        """
        large = regions.area >= required
        if some(kept & ~large):
            in_all = self._tracks.totals(regions.area.astype(np.float64))
            large |= kept & (in_all >= KEPT_SHARE * required)
        large[0] = False
        at_rest, must_fade = self._background.reference, not look.light
        left_out = regions.relit(look.corrected, at_rest, large & ~kept, must_fade=must_fade)
        left_out |= self._text.text(regions, look.shift)
        native = (
            large & ~self._tracks.travelled() if not look.shift and not look.light else np.zeros_like(large)
        )
        self._screens.update(regions, look.corrected, look.whole_threshold, native, now)
        left_out |= self._screens.left_out(regions, ~self._tracks.passing(now), now)
        if self._switched is not None:
            left_out |= self._lit(regions, look, large, now)
        large &= ~left_out
        if self._past and now - self._past.at >= _PAST_S - 1e-6:
            if some(large):
                holes = self._heal(regions, look, self._past.plane, large, now)
                left_out |= holes
                large &= ~holes
            self._doubt = False
        return large, left_out

    def _followed(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        large: NDArray[np.bool_],
        left_out: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return the `large` regions, and what has become small: it continues its track, and begins none."""
        others = ~(large | left_out)
        if not some(others[1:]):
            return large
        small = regions.inner & (regions.area >= np.maximum(_CONTINUES * required, FEWEST_PIXELS))
        return large | (others & small & self._tracks.continuing())

    def _lasting(
        self,
        regions: Regions,
        required: NDArray[np.float64],
        look: Look,
        among: NDArray[np.bool_],
        scene: Scene,
        now: float,
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those seen before are motion because they last in a calm place."""
        if look.shift or look.light or self._background.learning or not some(among):
            return np.zeros(regions.count, np.bool_)
        among = among & self._tracks.lasting(now) & ~self._text.perhaps(regions, now)
        return self._evidence.lasting(regions, required, look, among, scene)

    def _held(self, regions: Regions, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are motion because they were a moment ago.

        Not a television: what has moved in its own place for long.
        """
        held = among & self._tracks.held(now)
        for label in labels(held & ~self._tracks.travelled()):
            held[label] = self._in_place.most(regions, label) < IN_PLACE_S
        return held

    def _stirring(
        self, regions: Regions, look: Look, past: Plane, among: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for stir; among specks, for more than a moment."""
        if self._now <= self._stirs_from:
            return np.zeros(regions.count, np.bool_)
        now, tolerance = look.corrected, look.whole_threshold
        stirs = stirring(regions, now, past, tolerance, among)
        restless = stirs & self._tracks.restless()
        if some(restless) and len(self._moments) == _MOMENTS:
            *before, _, last, latest = (moment.plane for moment in self._moments)
            lasting = stirring_for_good(regions, (now, latest, last), before, tolerance, restless)
            stirs &= ~restless | lasting
        return stirs

    def _spend(
        self, regions: Regions, real: NDArray[np.bool_], lasting: NDArray[np.bool_], passed: float
    ) -> None:
        """Remember where motion was that did not come from elsewhere; part of its time if `lasting`."""
        for label in labels(real & ~self._tracks.travelled()):
            self._in_place.spend(regions, label, passed * (_LASTING_SPENDS if lasting[label] else 1.0))

    def _nothing(self, whole: Plane, regions: Regions, look: Look, now: float, passed: float) -> Reason:
        """Do what `_verdict` does, without any region; return the reason."""
        none = np.zeros(1, np.bool_)
        self._tracks.follow(regions, now)
        self._screens.update(regions, look.corrected, look.whole_threshold, none, now)
        if self._switched is not None and now - self._switched.at >= _PAST_S - 1e-6:
            self._switched = None
        if self._past and now - self._past.at >= _PAST_S - 1e-6:
            self._doubt = False
        settled = not self._background.learning and not self._doubt
        self._tracks.update(regions, none, none, none, none, self._unrest, now, settled=settled)
        self._places.update(regions, none, now, passed)
        self._mask = self._moving = nothing = self._no_regions.mask
        self._learn(look, nothing, (), now, passed)
        if self._doubt or now < self._learning_until - 1e-6:
            return Reason.LEARNING
        return self._why_not(whole, regions, none, none) if look.changed else Reason.STILL

    def _heal(
        self, regions: Regions, look: Look, past: Plane, large: NDArray[np.bool_], now: float
    ) -> NDArray[np.bool_]:
        """Return which regions are holes that an object has left; make them background at once.

        So is ground whose light has changed below an object. It brings no outline, and either was no motion
        for a while, or is kept, does not stir and has the texture of the ground.
        """
        if self._doubt:
            holes = regions.unchanged(look.corrected, past, look.whole_threshold, large)
        else:
            quiet = large & ~self._tracks.stirred(large, now)
            holes = regions.left_behind(
                look.corrected, self._background.edges, past, look.whole_threshold, quiet
            )
            calmed = large & ~holes & self._tracks.calmed(now)
            ground = regions.unchanged(look.corrected, past, look.whole_threshold, calmed)
            kept = large & ~holes & self._tracks.kept()
            still = kept & ~stirring(regions, look.corrected, past, look.whole_threshold, kept)
            ground |= regions.relit(look.corrected, self._background.reference, still, must_fade=False)
            if some(ground):
                holes |= ground & regions.without_outline(look.corrected, self._background.edges)
        if some(holes):
            self._background.take_over(look.corrected, grown(regions.mask_of(holes)))
        return holes

    def _lit(self, regions: Regions, look: Look, large: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions are as a leap of the light left them; make them background after `_PAST_S`."""
        assert self._switched is not None
        since, plane, leapt, *_ = self._switched
        if now == since:
            # In the frame of the leap itself, everything belongs to the leap except what was already moving.
            lit = large & ~self._tracks.moved()
        else:
            lit = regions.unchanged(look.corrected, plane, look.whole_threshold, large)
        if leapt is not None:
            lit &= regions.share(leapt, lit) > _LEAPT
        # An object has an outline, light has none. Where all has leapt, only what was kept may be an object.
        doubtful = lit if leapt is not None else lit & self._tracks.kept()
        if some(doubtful):
            lit &= ~doubtful | regions.without_outline(look.corrected, self._background.edges)
        if now - since >= _PAST_S - 1e-6:
            self._take_over_light(regions, look, self._switched, lit, large & ~lit & self._tracks.kept())
            self._switched = None
        return lit

    def _take_over_light(
        self,
        regions: Regions,
        look: Look,
        switch: _Switch,
        lit: NDArray[np.bool_],
        kept: NDArray[np.bool_],
    ) -> None:
        """Make what a leap of the light has left background, but not where a person stood.

        That is all of the `lit` regions, and in the `kept` ones what is still as a light left it: the hard
        shadow that a piece of furniture now casts beside a person.
        """
        place = regions.mask_of(lit)
        stood = None if switch.stood is None else u8(cv2.dilate(switch.stood, _SPECK))
        if switch.is_light and stood is not None and some(kept):
            changed = cv2.absdiff(look.corrected, switch.plane)
            as_left = u8(cv2.compare(changed, look.whole_threshold, cv2.CMP_LE)) & regions.mask_of(kept)
            if switch.leapt is not None:
                as_left &= switch.leapt
            beside = u8(cv2.subtract(as_left, stood))
            place = place | u8(cv2.morphologyEx(beside, cv2.MORPH_OPEN, _SPECK))
        if not cv2.countNonZero(place):
            return
        place = grown(place)
        if stood is not None:
            place = u8(cv2.subtract(place, stood))
        self._background.take_over(look.corrected, place)

    def _learn(
        self, look: Look, moving: Plane, not_specks: Sequence[Plane | None], now: float, passed: float
    ) -> None:
        """Learn from a frame, except where the mask `moving` is not 0; `not_specks` are masks too."""
        background = self._background
        self._undecided.wait(passed)
        self._in_place.wait(passed)
        specks = None
        if look.changed:
            specks = u8(cv2.subtract(look.stands_out, self._mask))
            for mask in not_specks:
                if mask is not None:
                    specks = u8(cv2.subtract(specks, mask))
        place = self._tracks.place()
        self._unrest.learn(
            specks, min(passed, HOLDS_S), now - background.born, self._tracks.place_of_travelled()
        )
        rested = self._tracks.rested(now)
        if rested is not None:
            background.take_over(look.corrected, grown(rested))
        if self._tracks.worn is not None:
            moving = u8(cv2.subtract(moving, self._tracks.worn))
        background.learn(look.corrected, look.distance, moving, now, place)
        if not self._moments or now - self._moments[-1].at >= _PAST_STEP_S - 1e-6:
            self._moments.append(_Moment(now, look.corrected))
        earlier = (moment for moment in reversed(self._moments) if now - moment.at >= _PAST_S)
        self._past = next(earlier, self._moments[0])

    def _forget_moments(self) -> None:
        self._past = None
        self._moments.clear()

    def _why_not(
        self, whole: Plane, regions: Regions, large: NDArray[np.bool_], fitting: NDArray[np.bool_]
    ) -> Reason:
        if some(fitting):
            return Reason.DEBOUNCE
        if some(large):
            return Reason.ABOVE_AREA
        hidden = cv2.countNonZero(cv2.bitwise_and(whole, self._areas.ignored))
        if hidden >= self._areas.pixels(self._areas.far):
            return Reason.MASKED
        return Reason.BELOW_AREA if regions.count > 1 else Reason.STILL


def _boxes(regions: Regions, real: NDArray[np.bool_], shift: Shift = STEADY) -> tuple[Box, ...]:
    """Return the real regions' boxes as shares of the image before alignment, largest first."""
    height, width = regions.shape
    boxes = []
    for label in sorted(labels(real), key=lambda label: -int(regions.area[label])):
        left, top, wide, high = regions.boxes[label].tolist()
        x0, x1 = (min(max(x + shift.x, 0.0), width) / width for x in (left, left + wide))
        y0, y1 = (min(max(y + shift.y, 0.0), height) / height for y in (top, top + high))
        boxes.append(Box(x0, y0, x1 - x0, y1 - y0))
    return tuple(boxes)
