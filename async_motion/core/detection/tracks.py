"""Regions followed over frames: "seen before" and "stays" are properties of an object, not of a place.

A track is expected where its speed has taken it. Each region continues the track whose expected box it
overlaps most, or else the one in whose search area most of it lies, so a person who falls into parts stays
one track; a region in none begins one. This is greedy association, simpler than in Bewley et al., "Simple
online and realtime tracking" (2016): a constant speed instead of a Kalman filter. Where frames are rare, see
`association`.

A believed track is *kept* if its place is calm (without specks): the background does not learn that place.
So a person who stops still differs when moving on, and leaves no ghost. The track is kept until it has not
stirred for `rest_s`; then its place becomes background at once, like that of a parked car. Where leaves or
water move, only what has come from elsewhere is kept, and it stirs there only by what is not gone at once.
In heavier rain it must be large and stand too, and is not kept as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.association import Restless, likeliest
from async_motion.core.detection.corners import Corners, common, enclosing, size
from async_motion.core.detection.regions import Regions, Unrest, labels
from async_motion.core.detection.working_image import Plane, grown, u8

_SPREAD, _SPREAD_PIXELS = 0.15, 2.0
"""How far an object may be from its expected place: image widths in a second, and pixels."""
_OFTEN_S = 0.25
"""With a longer time between two frames, frames are rare."""
_CHANCE = 0.05
"""A track was seen before unless a chain of chances is likelier than this."""
_MAX_GAP_S = 4.0
"""A longer gap between two frames does not widen the search further."""
_LOST_S, _LOST_FRAMES = 1.0, 2
"""A track without a region is forgotten after both."""
_DART_S, _DART = 0.15, 0.25
"""A step darts if the region covers less than the share `_DART` of its last place. An insect in front of the
lens does. A new track that darts within its first `_DART_S` was not seen before."""
_FEW_S, _RARE_S = 0.15, 0.5
"""With a frame each `_FEW_S` to `_RARE_S`, a small track of which every step darted in another direction was
not seen before either. With rarer frames, people dart too."""
_PROVEN_STEPS = 2
"""There, a small track is proven once its steady steps outnumber its darts by this."""
_DARTING_SIZE = 0.005
"""Share of the image that such a track covers at most, and a region that is where it is by chance."""
_FOLLOW_SPEED = 0.5
_CONVINCING_S = 0.5
"""A track is kept only after this much motion: an insect in front of the lens is not."""
_STIRRED = 0.04
"""Share of a region that must have changed for the region to stir."""
_CALM = 0.006
"""Share of specks up to which a place is calm. Leaves in a light wind have 0.01."""
_STILL_KEPT, _RAIN_KEPT = 0.012, 0.025
"""What has come from elsewhere is kept up to the first share, in light rain or snow, or before a few leaves.
Where more than half of what is watched has more specks than that, it is heavier rain: what is large and
stands is kept up to the second share."""
_STANDS, _STANDS_S = 0.6, 2.0
"""A region stands if at most the first share of it has changed in half a second: the glints on a puddle
change all over. A track is firm until the time has passed since it stood, or came to its place."""
_PART = 0.05
"""Where it is not calm, what is smaller than this share of a track's largest size is no part of it."""
_RIM = 4.0
"""So many pixels around an object may belong to it."""
_NOWHERE: Corners = (math.inf, math.inf, -math.inf, -math.inf)
_MAX_STAY = 20.0
"""A track that stays in one place is kept for at most this multiple of `rest_s`: a flag flaps for ever."""
_NATIVE_STAY = 3.0
"""The same for a track that has never come from elsewhere (a television, but also a person in a doorway) and
in heavier rain (a bush). If the former still stirs then, its place is worn for `_WORN_S`: what does not come
from elsewhere is not kept there."""
_WORN_S = 300.0
_TRAVELS_AFTER_S = 1.0
"""Before, a large object has not shown its whole size."""
_LASTS_S = 2.0
"""What has been followed for this long lasts."""
_PASSES_S = 3.0
"""What stays in one place for longer does not pass."""
_GLOWS_S = 1.0
"""A glow may look like an object for this long."""
_LATELY_S = 1.0
"""What came from elsewhere and has stirred within this time has not left a hole, unless it has several parts,
of which one may be the hole."""
_HELD_S = 0.5
"""The evidence of what hardly stands out comes and goes: a kept track may be motion for this long without."""
_CALMED_S = 0.5
"""What was no motion for this long may be what an object has left."""


_Point = tuple[float, float]


class Track:
    """One object. `box` is left, top, right, bottom in pixels; `speed` of its centre is in pixels a second.

    `moving` while it is motion, the last time at `moved_at`; `believed` once it has been motion for long
    enough. `travelled` once it has been as far from where it `began` as it has been `widest` or `highest`. It
    has stayed near `origin` since `stays_since`, last stirred at `stirred_at` and last stood at `stood_at`.
    The last time without heavier rain was `calm_at`.
    `step` was its last step in pixels; `times` how often it was seen in a row, at least 1; `steady` by how
    much its steady steps, which did not dart or went on as the one before, outnumber its darts; `is_steady`
    once one was steady; `glowed_at` the time it last was a glow. `unrest` is the share of specks in and
    around its place.
    """

    __slots__ = (
        "began",
        "believed",
        "born",
        "box",
        "calm",
        "calm_at",
        "glowed_at",
        "highest",
        "is_steady",
        "mask",
        "misses",
        "moved_at",
        "moving",
        "moving_s",
        "origin",
        "seen_at",
        "speed",
        "stays_since",
        "steady",
        "step",
        "stirred_at",
        "stood_at",
        "times",
        "travelled",
        "unrest",
        "widest",
    )

    def __init__(self, box: Corners, now: float) -> None:
        self.box, self.born = box, now
        self.origin: _Point = _centre(box)
        self.began = self.origin
        self.widest, self.highest = box[2] - box[0], box[3] - box[1]
        self.speed: _Point = (0.0, 0.0)
        self.step: _Point | None = None
        self.glowed_at = self.stood_at = -math.inf
        self.mask: Plane | None = None
        self.seen_at = self.stirred_at = self.stays_since = self.moved_at = self.calm_at = now
        self.believed = self.moving = self.calm = self.travelled = self.is_steady = False
        self.misses, self.times, self.steady, self.moving_s, self.unrest = 0, 0, 0, 0.0, 0.0

    @property
    def is_kept(self) -> bool:
        """Whether the background must not learn its place."""
        return self.believed and self.calm

    def expected(self, now: float, spread: float = 0.0) -> Corners:
        """Return the box where the track is expected at `now`, with `spread` pixels around it."""
        passed = min(now - self.seen_at, _MAX_GAP_S)
        left, top, right, bottom = self.box
        x, y = self.speed[0] * passed, self.speed[1] * passed
        return left + x - spread, top + y - spread, right + x + spread, bottom + y + spread

    def searched(self, now: float, width: int) -> Corners:
        """Return the box to search at `now`, in an image `width` pixels wide."""
        return self.expected(now, _SPREAD * width * min(now - self.seen_at, _MAX_GAP_S) + _SPREAD_PIXELS)

    @property
    def is_restless(self) -> bool:
        """Whether specks come and go around it: rain, leaves."""
        return self.unrest > _CALM

    @property
    def smallest_part(self) -> float:
        """How many pixels the box of a part has at least: where it is restless, a drop is no part."""
        return _PART * self.widest * self.highest if self.is_restless else 0.0

    def darts(self, box: Corners) -> bool:
        """Return whether `box` hardly overlaps the last place."""
        return common(box, self.box) < _DART * min(size(box), size(self.box))

    def move(self, box: Corners, now: float) -> None:
        """Move the track to `box` at `now`."""
        passed = max(now - self.seen_at, 1e-3)
        (x, y), (old_x, old_y), (across, down) = _centre(box), _centre(self.box), self.speed
        self.speed = (
            across + _FOLLOW_SPEED * ((x - old_x) / passed - across),
            down + _FOLLOW_SPEED * ((y - old_y) / passed - down),
        )
        step, last = (x - old_x, y - old_y), self.step
        goes_on = last is not None and (
            abs(step[0] - last[0]) <= box[2] - box[0] and abs(step[1] - last[1]) <= box[3] - box[1]
        )
        stays = not self.darts(box)
        if now > self.seen_at:
            self.steady = self.steady + 1 if goes_on or stays else max(self.steady - 1, 0)
            self.is_steady |= self.steady > 0
            self.step = step
        self.box, self.seen_at, self.misses, self.times = box, now, 0, self.times + 1
        self.widest = max(self.widest, box[2] - box[0])
        self.highest = max(self.highest, box[3] - box[1])
        if abs(x - self.origin[0]) > box[2] - box[0] or abs(y - self.origin[1]) > box[3] - box[1]:
            self.origin, self.stays_since = (x, y), now
        if now - self.born >= _TRAVELS_AFTER_S:
            self.travelled |= abs(x - self.began[0]) > self.widest or abs(y - self.began[1]) > self.highest

    def is_firm(self, now: float, pixels: int) -> bool:
        """Return whether the track is large in an image of so many `pixels`, and stands or has just come."""
        large = size(self.box) > _DARTING_SIZE * pixels
        return large and now - max(self.stood_at, self.stays_since) <= _STANDS_S

    def rests(self, now: float, rest_s: float) -> bool:
        """Return whether the track has become part of the scene."""
        longest = (_MAX_STAY if self.travelled else _NATIVE_STAY) * rest_s
        # This time begins when heavier rain does.
        stays_in_rain = now - max(self.stays_since, self.calm_at) > _NATIVE_STAY * rest_s
        return now - self.stirred_at > rest_s or now - self.stays_since > longest or stays_in_rain

    def is_new(self, now: float, pixels: int) -> bool:
        """Return whether a step that darts is not believed yet, in an image of so many `pixels`."""
        if now - self.born < _DART_S:
            return True
        only_darted = not self.is_steady and size(self.box) <= _DARTING_SIZE * pixels
        return only_darted and _FEW_S - 1e-6 <= now - self.seen_at <= _RARE_S


class Tracks:
    """The tracks of one camera. Call `follow` for each frame's regions, then `update`.

    `watched_cells` (h/8, w/8) is not 0 where the scene is watched.
    """

    def __init__(self, rest_s: float, watched_cells: Plane) -> None:
        self._rest_s, self._watched = rest_s, watched_cells > 0
        self._tracks: list[Track] = []
        self._worn: Plane | None = None
        self._worn_until = 0.0
        self._restless = Restless()
        self._followed_at = self._passed = 0.0
        self._owner = np.full(1, -1)
        """Index of the track that each region continues, by label; -1 for none."""

    def follow(self, regions: Regions, now: float) -> NDArray[np.bool_]:
        """Assign a frame's regions to tracks; return which continue a track from the two frames before.

        A region that darts does not: its track has not been seen long enough. Nor does one that may be where
        it is by chance.
        """
        passed = self._passed = now - self._followed_at
        self._followed_at = now
        rare = passed > _OFTEN_S
        if not self._tracks or regions.count < 2:
            self._owner = np.full(regions.count, -1)
            if rare:
                self._restless.none(passed)
            return np.zeros(regions.count, np.bool_)
        areas = [track.searched(now, regions.shape[1]) for track in self._tracks]
        if rare:
            self._owner = self._likeliest(regions, np.array(areas))
        else:
            self._owner = np.array([-1, *self._owners(regions.corners[1:].tolist(), areas, now)])
        seen = self.continuing()
        pixels = regions.mask.size
        young = [track.is_new(now, pixels) for track in self._tracks]
        if any(young):
            seen &= ~(self._where(young) & self._darts(regions))
        if rare:
            searched = np.array(areas)
            sides = np.minimum(searched[:, 2:], regions.shape[::-1]) - np.maximum(searched[:, :2], 0.0)
            seen &= ~self._by_chance(regions, sides.prod(axis=1) / pixels, passed)
        return seen

    def _owners(self, boxes: list[Corners], areas: list[Corners], now: float) -> list[int]:
        """Return the track that each box continues: the one expected there, or else one that is sought there.

        What was missing in the frame before is only sought: its area is large and would hold what is others'.
        """
        expected = [_NOWHERE if track.misses else track.expected(now) for track in self._tracks]
        smallest = [track.smallest_part for track in self._tracks]
        owners = []
        for box in boxes:
            owner = _most_common(box, expected, smallest)
            owners.append(owner if owner >= 0 else _most_common(box, areas, smallest))
        return owners

    def _likeliest(self, regions: Regions, searched: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the track that each region continues where frames are rare."""
        boxes = regions.corners
        overlap = (boxes[:, None, :2] < searched[:, 2:]) & (boxes[:, None, 2:] > searched[:, :2])
        reaches = overlap[..., 0] & overlap[..., 1]
        reaches[0] = False
        last = np.array([track.box for track in self._tracks])
        # The track is expected in the middle of the box that is searched.
        centres = (searched[:, :2] + searched[:, 2:]) / 2.0
        margin = _SPREAD * _OFTEN_S * regions.shape[1] + _SPREAD_PIXELS
        return likeliest(boxes, last, centres, reaches, margin)

    def _by_chance(self, regions: Regions, searched: NDArray[np.float64], passed: float) -> NDArray[np.bool_]:
        """Return which small regions may continue their track by chance: rain, snow.

        `searched` is the share of the image in which each track was searched.
        """
        restless = (self._owner < 0) | self._darts(regions)
        restless[0] = False
        # The last element is for regions without a track, whose index is -1.
        of_regions = np.append(searched, 0.0)[self._owner]
        chance = self._restless.chance(regions.area, restless, of_regions, passed)
        times = np.array([*(track.times for track in self._tracks), 1])[self._owner]
        small = regions.area <= _DARTING_SIZE * regions.mask.size
        return np.asarray(small & (chance**times > _CHANCE), np.bool_)

    def _darts(self, regions: Regions) -> NDArray[np.bool_]:
        """Return which regions hardly overlap the last place of their track."""
        darts = np.zeros(regions.count, np.bool_)
        for label, owner in enumerate(self._owner.tolist()):
            if owner >= 0:
                darts[label] = self._tracks[owner].darts(regions.corners_of(label))
        return darts

    def unproven(self, regions: Regions) -> NDArray[np.bool_]:
        """Return which small regions continue a track that may still be an insect, where frames are few."""
        if not _FEW_S - 1e-6 <= self._passed <= _RARE_S:
            return np.zeros(regions.count, np.bool_)
        unproven = self._where(
            [track.steady < _PROVEN_STEPS and not track.believed for track in self._tracks]
        )
        small = regions.area <= _DARTING_SIZE * regions.mask.size
        return np.asarray(unproven & small, np.bool_)

    def moved(self) -> NDArray[np.bool_]:
        """Return which regions continue a track that was motion in the frame before."""
        return self._where([track.moving for track in self._tracks])

    def restless(self) -> NDArray[np.bool_]:
        """Return which regions continue a track around which specks come and go."""
        return self._where([track.is_restless for track in self._tracks])

    def kept(self) -> NDArray[np.bool_]:
        """Return which regions continue a track that is kept and has come from elsewhere."""
        return self._where([track.is_kept and track.travelled for track in self._tracks])

    def travelled(self) -> NDArray[np.bool_]:
        """Return which regions continue a track that has come from elsewhere."""
        return self._where([track.travelled for track in self._tracks])

    def passing(self, now: float) -> NDArray[np.bool_]:
        """Return which regions continue a track that has come from elsewhere and has not stayed here."""
        return self._where(
            [track.travelled and now - track.stays_since <= _PASSES_S for track in self._tracks]
        )

    def stirred(self, among: NDArray[np.bool_], now: float) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for have stirred lately.

        Each is the only one of its track there; the track is kept and has come from elsewhere.
        """
        owners = self._owner[among].tolist()
        return among & self._where(
            [
                track.is_kept
                and track.travelled
                and now - track.stirred_at < _LATELY_S
                and owners.count(index) == 1
                for index, track in enumerate(self._tracks)
            ]
        )

    def held(self, now: float) -> NDArray[np.bool_]:
        """Return which regions continue a kept track that was motion, by strong evidence, within `_HELD_S`.

        It need not have come from elsewhere.
        """
        return self._where(
            [track.is_kept and now - track.moved_at <= _HELD_S + 1e-6 for track in self._tracks]
        )

    def note_glows(self, glows: NDArray[np.bool_], now: float) -> None:
        """Remember that the tracks of these regions are a glow."""
        for label in labels(glows):
            if (owner := int(self._owner[label])) >= 0:
                self._tracks[owner].glowed_at = now

    def glowed(self, now: float) -> NDArray[np.bool_]:
        """Return which regions continue a track that has been a glow within `_GLOWS_S`."""
        return self._where([now - track.glowed_at <= _GLOWS_S for track in self._tracks])

    def lasting(self, now: float) -> NDArray[np.bool_]:
        """Return which regions continue a track that has been followed for `_LASTS_S`, not from dart to dart.

        What has stirred in its own place until that was worn does not.
        """
        return self._where(
            [
                now - track.born >= _LASTS_S - 1e-6
                and track.is_steady
                and (track.travelled or not self._is_worn(track))
                for track in self._tracks
            ]
        )

    def continuing(self) -> NDArray[np.bool_]:
        """Return which regions continue a track from the two frames before."""
        return self._where([track.misses < _LOST_FRAMES for track in self._tracks])

    def calmed(self, now: float) -> NDArray[np.bool_]:
        """Return which regions continue a track that is no longer motion.

        One that is kept and has come from elsewhere may stand there: it was no motion for `_CALMED_S`.
        """

        def is_calmed(track: Track) -> bool:
            if track.moving or now - track.born < _CALMED_S:
                return False
            return not (track.is_kept and track.travelled) or now - track.moved_at >= _CALMED_S

        return self._where([is_calmed(track) for track in self._tracks])

    def totals(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each region the sum of `values` over all regions of its track."""
        owners = [owner for owner in self._owner.tolist() if owner >= 0]
        if len(set(owners)) == len(owners):
            return values
        owned = self._owner >= 0
        sums = np.bincount(self._owner[owned], weights=values[owned], minlength=1)
        return np.asarray(np.where(owned, sums[self._owner], values), np.float64)

    def update(
        self,
        regions: Regions,
        followed: NDArray[np.bool_],
        real: NDArray[np.bool_],
        stirs: NDArray[np.bool_],
        stands: NDArray[np.bool_],
        unrest: Unrest,
        now: float,
        *,
        settled: bool,
    ) -> None:
        """Move the tracks to the `followed` regions, of which `real` are motion.

        `stirs` tells which of these stir, `stands` which stand where specks come and go. Motion before the
        background is `settled` does not make a track believed.
        """
        parts_of: dict[int, list[int]] = {}
        boxes: dict[int, Corners] = {}
        for label in labels(followed):
            boxes[label] = regions.corners_of(label)
            index = int(self._owner[label])
            if index < 0:
                self._owner[label] = index = len(self._tracks)
                self._tracks.append(Track(boxes[label], now))
            parts_of.setdefault(index, []).append(label)
        for index, track in enumerate(self._tracks):
            parts = parts_of.get(index, [])
            passed, track.moving = now - track.seen_at, any(real[label] for label in parts)
            if not parts:
                track.misses, track.times = track.misses + 1, 1
                continue
            track.move(enclosing([boxes[label] for label in parts]), now)
            track.unrest = unrest.within(track.box)
            if track.unrest <= _STILL_KEPT:
                track.calm_at = now
            if any(stands[label] for label in parts):
                track.stood_at = now
            track.calm = self._is_calm(track, unrest, now, regions.mask.size)
            if track.moving:
                track.moved_at = now
            if track.moving and settled:
                track.moving_s += min(passed, _CONVINCING_S / 2.0)
                if not track.believed or any(stirs[label] for label in parts):
                    track.stirred_at = now
                track.believed |= track.moving_s >= _CONVINCING_S - 1e-6
            track.mask = regions.mask_of(followed & (self._owner == index)) if track.is_kept else None
        self._tracks = [
            track for track in self._tracks if track.misses < _LOST_FRAMES or now - track.seen_at < _LOST_S
        ]

    def _is_calm(self, track: Track, unrest: Unrest, now: float, pixels: int) -> bool:
        """Return whether the place of a track is calm enough to keep it, in an image of so many `pixels`."""
        if not track.travelled:
            return not track.is_restless and not self._is_worn(track)
        if track.unrest <= _STILL_KEPT:
            return True
        if track.unrest > _RAIN_KEPT or not track.is_firm(now, pixels):
            return False
        return unrest.median(self._watched) > _STILL_KEPT

    def place(self) -> Plane | None:
        """Return the mask (h, w) of everything that is kept; None for nothing."""
        return _union(self._tracks)

    def place_of_travelled(self) -> Plane | None:
        """Return the mask (h, w) of what is kept and has come from elsewhere; None for nothing."""
        return _union([track for track in self._tracks if track.travelled])

    def boxes_of_travelled(self, shape: tuple[int, ...]) -> Plane | None:
        """Return the mask (h, w) of the boxes of what is kept and has come from elsewhere; None for nothing.

        Each is as large as its track has ever been: of a dark person only the head may be left.
        """
        mask = None
        for track in self._tracks:
            if track.is_kept and track.travelled:
                if mask is None:
                    mask = np.zeros(shape, np.uint8)
                x, y = _centre(track.box)
                across, down = track.widest / 2, track.highest / 2
                # No pixel more: a track in the shadow of a cloud would grow over all of it.
                rows = slice(max(round(y - down), 0), round(y + down))
                mask[rows, max(round(x - across), 0) : round(x + across)] = 255
        return mask

    def hidden(self, shape: tuple[int, ...], now: float) -> Plane:
        """Return the mask (h, w) of the boxes in which what moves, or is kept, was and may be now."""
        mask = np.zeros(shape, np.uint8)
        for track in self._tracks:
            if track.moving or track.is_kept:
                step = math.hypot(*track.speed) * min(now - track.seen_at, _MAX_GAP_S)
                for box in (track.expected(track.seen_at, _RIM), track.expected(now, _RIM + step / 2.0)):
                    left, top, right, bottom = (max(round(side), 0) for side in box)
                    mask[top:bottom, left:right] = 255
        return mask

    def rested(self, now: float) -> Plane | None:
        """Forget the kept tracks that have come to rest; return their mask (h, w), None for nothing."""
        at_rest = [track for track in self._tracks if track.is_kept and track.rests(now, self._rest_s)]
        self._tracks = [track for track in self._tracks if track not in at_rest]
        stirring = [
            track for track in at_rest if not track.travelled and now - track.stirred_at <= self._rest_s
        ]
        place = _union(stirring)
        if place is not None:
            place = grown(place)
            self._worn = place if self._worn is None else u8(cv2.bitwise_or(place, self._worn))
            self._worn_until = now + _WORN_S
        elif self._worn is not None and now > self._worn_until:
            self._worn = None
        return _union(at_rest)

    @property
    def worn(self) -> Plane | None:
        """The mask (h, w) of places that have stirred for so long that they are learned; None for none."""
        return self._worn

    def _is_worn(self, track: Track) -> bool:
        """Return whether the middle of a track lies in a worn place."""
        if self._worn is None:
            return False
        x, y = _centre(track.box)
        return bool(self._worn[min(int(y), len(self._worn) - 1), min(int(x), self._worn.shape[1] - 1)])

    def _where(self, of_tracks: list[bool]) -> NDArray[np.bool_]:
        """Return which regions continue a track for which the value is true."""
        if True not in of_tracks:
            return np.zeros(len(self._owner), np.bool_)
        return np.asarray(np.array([*of_tracks, False])[self._owner], np.bool_)


def stirring(
    regions: Regions, image: Plane, past: Plane, tolerance: Plane, among: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which regions `among` those asked for have changed inside since `past`, beyond `tolerance`."""
    return _shares(regions, regions.changed(image, past, tolerance, among)) > _STIRRED


def standing(
    regions: Regions, image: Plane, past: Plane, tolerance: Plane, among: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which regions `among` those asked for are mostly as in `past`, up to `tolerance`."""
    return among & (_shares(regions, regions.changed(image, past, tolerance, among)) <= _STANDS)


def stirring_for_good(
    regions: Regions,
    images: Sequence[Plane],
    past: Sequence[Plane],
    tolerance: Plane,
    among: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return which regions each of `images` shows changed since each of `past`: one alone shows a drop."""
    return _shares(regions, regions.changed_for_good(images, past, tolerance, among)) > _STIRRED


def _shares(regions: Regions, changed: dict[int, int]) -> NDArray[np.float64]:
    """Return the share of each region that has changed; 0 for a region whose label is missing."""
    shares = np.zeros(regions.count)
    for label, pixels in changed.items():
        shares[label] = pixels / regions.area[label]
    return shares


def _union(tracks: list[Track]) -> Plane | None:
    masks = [track.mask for track in tracks if track.mask is not None]
    if not masks:
        return None
    whole = masks[0]
    for mask in masks[1:]:
        whole = whole | mask
    return whole


def _most_common(box: Corners, areas: list[Corners], smallest: list[float]) -> int:
    """Return the index of the area that has most in common with a box that is not too small; -1 for none."""
    most, index, pixels = 0.0, -1, size(box)
    for at, area in enumerate(areas):
        # Most areas are elsewhere.
        if area[0] < box[2] and box[0] < area[2] and area[1] < box[3] and box[1] < area[3]:
            shared = common(box, area)
            if shared > most and pixels >= smallest[at]:
                most, index = shared, at
    return index


def _centre(box: Corners) -> _Point:
    return (box[0] + box[2]) / 2.0, (box[1] + box[3]) / 2.0
