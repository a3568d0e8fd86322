"""From changed pixels to regions: cleaning, connected components, and the evidence for each.

The mask is generous, so that objects stay whole; the verdict asks each region for evidence:

- **Strong pixels**: enough of the region must be far above its pixels' noise.
- **Unrest**: where specks come and go (leaves, water, rain), more strong pixels are required.
- **Persistence**: the region continues a track (`tracks`).
- **Texture**: soft light keeps the background's; an object hides it.
- **Edges**: an object brings its own edges. An unchanging region whose outline is an edge in the
  background but not in the frame is a hole that an object has left; it becomes background at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.corners import Corners
from async_motion.core.detection.shadows import shadows
from async_motion.core.detection.working_image import (
    BLURRED,
    Plane,
    Window,
    above,
    as_mask,
    eighth,
    extent,
    gradient,
    mean,
    steepness,
    texture,
    u8,
)

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_SQUARE = np.ones((5, 5), np.uint8)
_CELLS = np.ones((3, 3), np.uint8)
_REACH = 7
"""How far the shadow test and the cleaning look beyond a pixel."""
_HOLE = 0.02
"""Maximum size of a hole that is filled, as a share of the image."""
_OUTSIDE = 1
"""Label of what surrounds all regions: that of the first pixel."""
_VANISHED = 0.7
"""A region is a hole if the edges along its outline are below this share of the background's."""
_MANY = 12
"""Up to this many regions are faster one by one."""
_SMALL = 10_000
"""In a window of at most this many pixels, labels alone are tried first: one region needs no statistics."""
_MARGIN = 3
"""Pixels around all regions in which their outlines are looked for."""
_EDGE = 6
_NEW_OUTLINE = 0.25
"""A patch of light has new edges along less than this share of its outline."""
_UNCHANGED = 0.85
_TEXTURE, _SAME_TEXTURE = 1.0, 0.85
"""Minimum deviation of a textured region from its blurred self, in grey levels, and minimum correlation of
the deviations of frame and background for the surface to be the same."""
_WEAKEST = 0.5
"""The least strength of the texture in a light, as a share of the background's: what hides more of it is an
object that lets some through."""
_CORE = 60
"""From this many pixels on, the texture is compared without the rim into which the blur reaches."""
_FADES = 0.4
"""Soft light differs beyond its outline by more than this share of its difference within. An object ends."""
_BRIGHTER, _TOP, _STEEP = 0.9, 0.05, 0.05
"""Share of a glow that is brighter than the ground, share of it that is about as high as its middle, and
share of it and its rim that is about as steep as its steepest parts."""
_IN_FOCUS = 0.3
"""The ground's sharpness from which the next limits hold."""
_BLURRED, _SHARP, _GENTLE = 0.2, 0.3, 2.0
"""A glow of the height h (grey levels) rises by less than `_BLURRED * h` in a pixel; or by less than
`_SHARP * h` and, with the radius r (pixels), where it is steep by less than `_GENTLE * h / r` (a Gaussian by
1.3 * h / r)."""
_ROUND, _GAUSSIAN = 1.5, 1.4
"""However soft the image is, what is round (its sides differ at most by the first factor) is a glow if it is
steep by less than the second, times h / r: it has no flat top at all."""
_GLOW_PIXELS = 60
"""In smaller regions objects are no steeper than a glow."""
_UNREST_S = 8.0
_AROUND, _DISTURBED = 3, 1
"""Around a box are the cells up to `_AROUND` from it, without those up to `_DISTURBED`: the object in the box
causes the specks in these."""
_RESTLESS = 0.02
"""Share of specks at which a cell is fully restless. Windy trees and strong rain have 0.02 to 0.06."""


def clean(
    differs: Plane, plane: Plane, background: Plane, known: Plane | None = None
) -> tuple[Plane, Window | None]:
    """Return `differs` without shadows and specks, its gaps closed and its holes filled, and its window.

    In the mask `known` (h, w) is an object, and nothing a shadow. The result lies within `differs` without
    its specks, so only that window of the image is processed.
    """
    if min(differs.shape) < 3:
        return differs.copy(), None
    cleaned = np.zeros(differs.shape, np.uint8)
    generous = u8(cv2.medianBlur(differs, 3))
    window = extent(generous, _REACH)
    if window is None:
        return cleaned, None
    part = generous[window]
    shaded = shadows(plane[window], background[window], differs[window])
    if known is not None:
        shaded = u8(cv2.subtract(shaded, known[window]))
    if cv2.countNonZero(shaded):
        part = u8(cv2.bitwise_and(_without_specks(u8(cv2.subtract(differs[window], shaded))), part))
    part = u8(cv2.morphologyEx(part, cv2.MORPH_CLOSE, _DISC))
    cleaned[window] = _filled(part, _HOLE * differs.size)
    return cleaned, window


def _without_specks(mask: Plane) -> Plane:
    """Return the 3x3 median of a mask; medianBlur is ten times as slow for images of some 50 pixels."""
    return above(u8(cv2.blur(mask, (3, 3), borderType=cv2.BORDER_REPLICATE)), 127)


def _filled(mask: Plane, max_area: float) -> Plane:
    """Fill holes of less than `max_area` pixels in place."""
    around = cv2.copyMakeBorder(cv2.bitwise_not(mask), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    count, labels = cv2.connectedComponents(around, connectivity=4, ltype=cv2.CV_16U)
    if count > _OUTSIDE + 1:
        holes = labels[1:-1, 1:-1] > _OUTSIDE
        # Counting them one by one is slow.
        if np.count_nonzero(holes) >= max_area:
            holes &= (np.bincount(labels.ravel()) < max_area)[labels[1:-1, 1:-1]]
        mask |= as_mask(holes)
    return mask


def some(flags: NDArray[np.bool_]) -> bool:
    """Return whether any of a few flags is set; ten times as fast as `flags.any()`."""
    return True in flags.tolist()


def labels(chosen: NDArray[np.bool_]) -> list[int]:
    """Return the labels of the chosen regions, without that of the background."""
    return [label for label, flag in enumerate(chosen.tolist()) if flag and label]


class Regions:
    """The connected regions of a mask. Arrays are indexed by label; label 0 is the background and always 0.

    `area` in pixels; `boxes` (n, 4): left, top, width, height in pixels. `shape` is that of the `mask`, and
    `window` its rows and columns that hold all regions: nothing outside of them is looked at.
    """

    def __init__(self, mask: Plane, window: Window | None = None) -> None:
        """Find the regions of `mask`, which all lie in `window`, if that is known."""
        self.mask = mask
        self.shape = (mask.shape[0], mask.shape[1])
        found = extent(mask, _MARGIN, window)
        if found:
            # OpenCV labels blocks of 2x2 pixels: an even start keeps the order of the whole image.
            rows, columns = (slice(side.start // 2 * 2, side.stop) for side in found)
            self.window = rows, columns
            labels, stats = _labelled(mask[self.window])
        else:
            self.window = slice(0, 0), slice(0, 0)
            labels, stats = np.zeros((0, 0), np.uint16), np.zeros((1, 5), np.int32)
        self._labels = labels
        self.count = len(stats)
        self._in_window: list[list[int]] = stats[:, :4].tolist()
        figures = np.add(stats, (self.window[1].start, self.window[0].start, 0, 0, 0))
        self.area: NDArray[np.int64] = figures[:, cv2.CC_STAT_AREA]
        self.area[0] = 0
        self.boxes: NDArray[np.int64] = figures[:, :4]
        self._parts: dict[int, tuple[Window, Plane]] = {}
        self._masks: dict[bytes, Plane] = {}
        self._compared: tuple[Plane, Plane, Plane, Plane, dict[int, int]] | None = None
        """The images that `changed` compared last, and what it found: several tests ask for the same."""

    @cached_property
    def corners(self) -> NDArray[np.float64]:
        """The boxes (n, 4) as left, top, right, bottom."""
        corners = self.boxes.astype(np.float64)
        corners[:, 2:] += corners[:, :2]
        return corners

    def corners_of(self, label: int) -> Corners:
        """Return the corners of a region's box."""
        left, top, width, height = self.boxes[label].tolist()
        return float(left), float(top), float(left + width), float(top + height)

    @cached_property
    def inner(self) -> NDArray[np.bool_]:
        """Which regions are whole: what touches the edge of the image is partly out of view."""
        height, width = self.shape
        left, top, right, bottom = self.corners.T
        return np.asarray((left > 1) & (top > 1) & (right < width - 1) & (bottom < height - 1), np.bool_)

    @cached_property
    def _pixels(self) -> NDArray[np.intp]:
        """The pixels of all regions, as places in the flat window."""
        return np.flatnonzero(self._labels)

    @cached_property
    def _label_of(self) -> NDArray[np.uint16]:
        """The label of each of `_pixels`."""
        return np.asarray(self._labels.ravel()[self._pixels], np.uint16)

    def part(self, label: int) -> tuple[Window, Plane]:
        """Return the rows and columns of a region's box in the window, and the region's mask there."""
        found = self._parts.get(label)
        if found is None:
            left, top, width, height = self._in_window[label]
            box = slice(top, top + height), slice(left, left + width)
            found = self._parts[label] = box, _where(self._labels[box], label)
        return found

    def pixels_of(self, label: int, part: Plane) -> int:
        """Return the pixels of one region that lie where `part`, a mask of the window, is not 0."""
        box, inside = self.part(label)
        return cv2.countNonZero(cv2.bitwise_and(part[box], inside))

    def pixels_inside(self, part: Plane, among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the pixels of each region that lie where `part`, a mask of the window, is not 0.

        0 for the regions that are not `among` those asked for; None asks for all. Few regions, one by one,
        cost a fraction of all.
        """
        if among is None and self.count > _MANY:
            inside = self._label_of[part.ravel()[self._pixels] > 0]
            return np.bincount(inside, minlength=self.count).astype(np.float64)
        pixels = np.zeros(self.count)
        for label in range(1, self.count) if among is None else labels(among):
            pixels[label] = self.pixels_of(label, part)
        return pixels

    def share(self, mask: Plane, among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the share of each region where `mask` is not 0; 0 if not `among` those asked for."""
        return self.pixels_inside(mask[self.window], among) / np.maximum(self.area, 1)

    def mask_of(self, chosen: NDArray[np.bool_]) -> Plane:
        """Return the mask of the chosen regions, the same array for the same regions."""
        known = self._masks.get(key := chosen.tobytes())
        if known is None:
            known = self._masks[key] = np.zeros(self.shape, np.uint8)
            window = known[self.window]
            for label in labels(chosen):
                box, inside = self.part(label)
                window[box] |= inside
        return known

    def unchanged(
        self, plane: Plane, past: Plane, tolerance: Plane, among: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for look as in `past`, except for a few pixels."""
        unchanged = np.zeros(self.count, np.bool_)
        for label, changed in self.changed(plane, past, tolerance, among).items():
            unchanged[label] = (self.area[label] - changed) / self.area[label] > _UNCHANGED
        return unchanged

    def changed(
        self, plane: Plane, past: Plane, tolerance: Plane, among: NDArray[np.bool_]
    ) -> dict[int, int]:
        """Return how many pixels differ from the image `past` by more than `tolerance`.

        By label, for the regions `among` those asked for.
        """
        chosen = labels(among)
        if not chosen:
            return {}
        known = self._compared
        if known is None or known[0] is not plane or known[1] is not past or known[2] is not tolerance:
            difference = cv2.absdiff(plane[self.window], past[self.window])
            differs = u8(cv2.compare(difference, tolerance[self.window], cv2.CMP_GT))
            self._compared = known = plane, past, tolerance, differs, {}
        *_, differs, pixels = known
        for label in chosen:
            if label not in pixels:
                pixels[label] = self.pixels_of(label, differs)
        return {label: pixels[label] for label in chosen}

    def changed_for_good(
        self, images: Sequence[Plane], past: Sequence[Plane], tolerance: Plane, among: NDArray[np.bool_]
    ) -> dict[int, int]:
        """Return how many pixels each of `images` shows differing from each of `past`, as `changed` does."""
        chosen = labels(among)
        if not chosen:
            return {}
        window = self.window
        least = functools.reduce(
            cv2.min, (cv2.absdiff(image[window], before[window]) for image in images for before in past)
        )
        differs = u8(cv2.compare(least, tolerance[window], cv2.CMP_GT))
        return {label: self.pixels_of(label, differs) for label in chosen}

    def left_behind(
        self,
        plane: Plane,
        edges_at_rest: Plane,
        past: Plane,
        tolerance: Plane,
        among: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are holes.

        A hole is unchanged since the image `past`, and its outline is an edge of the background.
        """
        gone = self.unchanged(plane, past, tolerance, among)
        if not some(gone):
            return gone
        label, now, then = self._outlines(plane, edges_at_rest)

        def total(values: NDArray[np.generic]) -> NDArray[np.float64]:
            return np.asarray(np.bincount(label, weights=values, minlength=self.count), np.float64)

        gone &= total(now) < _VANISHED * total(then)
        gone &= total(then > now + _EDGE) > total(now > then + _EDGE)
        gone[0] = False
        return gone

    def without_outline(self, plane: Plane, edges_at_rest: Plane) -> NDArray[np.bool_]:
        """Return which regions bring no edges along their outline: light does not, an object does."""
        label, now, then = self._outlines(plane, edges_at_rest)
        new = np.bincount(label, weights=now > then + _EDGE, minlength=self.count)
        return np.asarray(new < _NEW_OUTLINE * np.bincount(label, minlength=self.count), np.bool_)

    def relit(
        self, plane: Plane, at_rest: Plane, among: NDArray[np.bool_], *, must_fade: bool
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are light: they have the background's texture.

        Soft light also fades out beyond its outline. `must_fade` is False for what need not: what is left of
        a light of the whole image that is undone (burnt-in text, a lamp), and what was kept while the light
        around it changed.
        """
        relit = among.copy()
        for label in labels(among):
            relit[label] = self._same_texture(label, plane, at_rest) and (
                not must_fade or self._fades(label, plane, at_rest)
            )
        return relit

    def brighter(self, plane: Plane, at_rest: Plane, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are brighter than the ground."""
        rise = u8(cv2.compare(plane[self.window], at_rest[self.window], cv2.CMP_GT))
        return among & (self.pixels_inside(rise, among) >= _BRIGHTER * self.area)

    def glows(
        self, plane: Plane, at_rest: Plane, sharpness: float, among: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which regions `among` those asked for are a glow: brighter than the ground, nowhere sharp.

        Such are an insect near an infrared lamp, and a beam on bare ground; an object has a sharp edge
        somewhere. `sharpness` is that of the ground: in a soft image objects are soft too.
        """
        glow = np.zeros(self.count, np.bool_)
        in_focus = min(sharpness / _IN_FOCUS, 1.0) ** 2
        for label in labels(among & (self.area >= _GLOW_PIXELS)) if in_focus else []:
            around = self._around(label)
            inside = _where(self._labels[around], label)
            rise = u8(cv2.subtract(plane[self.window][around], at_rest[self.window][around]))
            area = int(self.area[label])
            if cv2.countNonZero(cv2.bitwise_and(rise, inside)) < _BRIGHTER * area:
                continue
            height = _highest(rise[inside > 0], _TOP)
            slopes = steepness(rise)[cv2.dilate(inside, _SQUARE) > 0] / height
            sharpest, steep = float(slopes.max()), _highest(slopes, _STEEP) * float(np.sqrt(area / np.pi))
            _, _, width, tall = self._in_window[label]
            is_round = max(width, tall) <= _ROUND * min(width, tall)
            glow[label] = (
                sharpest < _BLURRED * in_focus
                or (sharpest < _SHARP * in_focus and steep < _GENTLE * in_focus)
                or (is_round and sharpest < _SHARP and steep < _GAUSSIAN)
            )
        return glow

    def _same_texture(self, label: int, plane: Plane, at_rest: Plane) -> bool:
        box, inside = self.part(label)
        # Near the rim, a pixel's neighbourhood shows what is beside the region.
        core = u8(cv2.erode(inside, BLURRED, borderType=cv2.BORDER_CONSTANT, borderValue=0))
        if cv2.countNonZero(core) >= _CORE:
            inside = core
        now, then = (texture(each[self.window][box])[inside > 0] for each in (plane, at_rest))
        own, usual, common = float(now @ now), float(then @ then), float(now @ then)
        textured = min(own, usual) > _TEXTURE**2 * len(now)
        whole = own >= _WEAKEST**2 * usual
        return textured and whole and common > _SAME_TEXTURE * float(np.sqrt(own * usual))

    def _fades(self, label: int, plane: Plane, at_rest: Plane) -> bool:
        around = self._around(label)
        near = self._labels[around]
        inside, outside = _where(near, label), _where(near, 0)
        difference = cv2.absdiff(plane[self.window][around], at_rest[self.window][around])
        inner = cv2.mean(difference, u8(cv2.subtract(inside, cv2.erode(inside, _SQUARE))))[0]
        outer = cv2.mean(difference, u8(cv2.bitwise_and(cv2.dilate(inside, _SQUARE), outside)))[0]
        return outer > _FADES * inner

    def _around(self, label: int) -> Window:
        """Return the rows and columns of the window that hold a region's box and what is beside it."""
        rows, columns = self.part(label)[0]
        return (
            slice(max(rows.start - _MARGIN, 0), rows.stop + _MARGIN),
            slice(max(columns.start - _MARGIN, 0), columns.stop + _MARGIN),
        )

    def _outlines(
        self, plane: Plane, edges_at_rest: Plane
    ) -> tuple[NDArray[np.uint16], NDArray[np.float64], NDArray[np.float64]]:
        """Return the label of each pixel along the outlines, and its gradient now and at rest."""
        part = self.window
        mask = self.mask[part]
        band = u8(cv2.subtract(cv2.dilate(mask, _SQUARE), cv2.erode(mask, _SQUARE))) > 0
        label = np.asarray(cv2.dilate(self._labels, _SQUARE), np.uint16)[band]
        now = gradient(plane[part])[band].astype(np.float64)
        return label, now, edges_at_rest[part][band].astype(np.float64)


class Unrest:
    """Share of specks in each cell of 8x8 pixels, 0..1, averaged over seconds: leaves, water, rain, noise."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self.cells: NDArray[np.float32] = np.zeros(eighth(np.zeros(shape, np.uint8)).shape, np.float32)
        numbers = np.arange(self.cells.size, dtype=np.float32).reshape(self.cells.shape)
        self._cell_of = self._enlarged(numbers).astype(np.uint16)

    def learn(self, specks: Plane | None, passed_s: float, age_s: float, kept: Plane | None = None) -> None:
        """Include this frame's `specks` (h, w), None for none, except in cells near the mask `kept`."""
        rate = np.float32(passed_s / min(_UNREST_S, 1.0 + age_s))
        if specks is not None and cv2.countNonZero(specks):
            now = np.asarray(cv2.blur(eighth(specks).astype(np.float32), (3, 3)), np.float32)
            now /= np.float32(255.0)
            step = rate * (now - self.cells)
        else:
            step = -rate * self.cells
        if kept is not None:
            np.copyto(step, 0.0, where=cv2.dilate(eighth(kept), _CELLS) > 0)
        self.cells += step

    def plane(self) -> NDArray[np.float32]:
        """Return the unrest of each pixel, (h, w)."""
        return self._enlarged(self.cells)

    def mean(self, watched: Plane) -> float:
        """Return the mean unrest of the cells (h/8, w/8) that are not 0 in `watched`."""
        return float(cv2.mean(self.cells, watched)[0])

    def median(self, watched: NDArray[np.bool_]) -> float:
        """Return the unrest that half of the `watched` cells (h/8, w/8) exceed; 0 if nothing is watched."""
        cells = self.cells[watched]
        return float(np.median(cells)) if cells.size else 0.0

    def of(self, regions: Regions, label: int) -> float:
        """Return the mean unrest of the pixels of a region."""
        box, inside = regions.part(label)
        return float(cv2.mean(self.cells.take(self._cell_of[regions.window][box]), inside)[0])

    def _enlarged(self, cells: NDArray[np.float32]) -> NDArray[np.float32]:
        size = (self._shape[1], self._shape[0])
        return np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST), np.float32)

    def within(self, box: tuple[float, float, float, float]) -> float:
        """Return the unrest of the cells in and around a box (left, top, right, bottom in pixels)."""
        left, top, right, bottom = (max(int(side), 0) // 8 for side in box)
        rows, columns = slice(max(top - 2, 0), bottom + 3), slice(max(left - 2, 0), right + 3)
        cells = self.cells[rows, columns]
        return mean(cells) if cells.size else 0.0

    def around(self, regions: Regions, label: int) -> float:
        """Return the mean unrest around a region's box; of all cells around and in it if there is none."""
        left, top, width, height = regions.boxes[label].tolist()
        rows, columns = self.cells.shape

        def within(margin: int) -> tuple[float, int]:
            right = min((left + width) // 8 + margin + 1, columns)
            bottom = min((top + height) // 8 + margin + 1, rows)
            first, upper = min(max(left // 8 - margin, 0), columns), min(max(top // 8 - margin, 0), rows)
            cells = self.cells[upper:bottom, first:right]
            return float(cv2.sumElems(cells)[0]), cells.size

        (all_unrest, all_cells), (own_unrest, own_cells) = within(_AROUND), within(_DISTURBED)
        if all_cells > own_cells:
            return (all_unrest - own_unrest) / (all_cells - own_cells)
        return all_unrest / max(all_cells, 1)

    def calm_cells(self) -> Plane:
        """Return the calm of each cell, uint8: 255 without specks, 0 restless."""
        return u8(cv2.convertScaleAbs(np.maximum(_RESTLESS - self.cells, 0), alpha=255.0 / _RESTLESS))

    def calm(self, cells: Plane) -> Plane:
        """Return the calm of each pixel's surroundings, (h, w) uint8, from `calm_cells`."""
        size = (self._shape[1], self._shape[0])
        return u8(cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR))


def _highest(values: NDArray[np.uint8] | NDArray[np.float32], share: float) -> float:
    """Return the value that this share of a non-empty flat array exceeds."""
    place = int((1.0 - share) * (len(values) - 1))
    return float(np.partition(values, place)[place])


def _labelled(mask: Plane) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Return the label of each pixel, and OpenCV's statistics of each label; 0 for the background."""
    if mask.size <= _SMALL:
        count, labels = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_16U)
        if count == 2:
            one = [*cv2.boundingRect(mask), cv2.countNonZero(mask)]
            return np.asarray(labels, np.uint16), np.array([[0] * 5, one], np.int32)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_16U)
    return np.asarray(labels, np.uint16), np.asarray(stats, np.int32)


def _where(labels: NDArray[np.uint16], label: int) -> Plane:
    """Return the mask of one label."""
    return as_mask(labels == label)
