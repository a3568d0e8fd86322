"""Ground that sways: a region that shows the background a few pixels from its place, while all edges move.

A branch in the wind, or a line before a wobbling mast, hides nothing: its region shows what is beside it at
rest. But so does a person who belongs to the background and stirs, or who looks out behind a similar trunk.
So edges all over the image must move too. Then the place is sought where the background resembles the region
most (block matching); there the region must differ less and have the same texture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from async_motion.core.detection.alignment import Edges
from async_motion.core.detection.background import Background
from async_motion.core.detection.corners import Corners
from async_motion.core.detection.look import Look
from async_motion.core.detection.regions import Regions, labels, some
from async_motion.core.detection.working_image import Plane, texture, u8

_BLOCKS = 4
"""The image has this many blocks across and down."""
_FEW_EDGES, _FEW_BLOCKS = 2, 4
"""A block with fewer points on edges, and an image with fewer such blocks, cannot tell."""
_MOVES, _MOVE = 0.2, 0.5
"""A block moves if this share of its points does, and the edges do if this share of the blocks does."""
_BESIDE = 8
"""What is this close to a region, in working pixels, may move with it."""
_REACH = 3
"""How far a region's ground may have moved, in working pixels."""
_LARGEST, _MOST = 0.3, 32
"""Share of the image that the box of such a region covers at most, and how many regions are looked at."""
_EXPLAINED = 0.7
"""At that place the region differs in at most this share of the pixels in which it differs from its own."""
_ALIKE = 0.6
"""Minimum correlation of the textures of the region and of the ground at that place."""


def swaying(
    regions: Regions, look: Look, background: Background, watched: Plane, among: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which regions `among` those asked for show the ground, moved by up to `_REACH` pixels.

    Only edges where `watched` (h, w) is not 0 tell whether the ground sways.
    """
    sways = np.zeros(regions.count, np.bool_)
    if not some(among):
        return sways
    chosen = labels(among & (regions.boxes[:, 2:].prod(axis=1) <= _LARGEST * regions.mask.size))[:_MOST]
    if chosen:
        edges = background.aligner.edges(look.corrected, background.mean_noise).where(watched)
        chosen = [label for label in chosen if _edges_move(edges, regions.corners_of(label), regions.shape)]
    if not chosen:
        return sways
    # Beyond the edge of the image the ground repeats its edge.
    beyond = _REACH, _REACH, _REACH, _REACH
    ground = u8(cv2.copyMakeBorder(background.reference, *beyond, borderType=cv2.BORDER_REPLICATE))
    for label in chosen:
        sways[label] = _is_moved(regions, label, look, ground)
    return sways


def _edges_move(edges: Edges, box: Corners, shape: tuple[int, int]) -> bool:
    """Return whether the edges of most of an image of this `shape` (h, w) move, without those at a `box`."""
    left, top, right, bottom = box
    away = (edges.x < left - _BESIDE) | (edges.x > right + _BESIDE)
    away |= (edges.y < top - _BESIDE) | (edges.y > bottom + _BESIDE)
    across, down = (edges.x[away] * _BLOCKS // shape[1]), (edges.y[away] * _BLOCKS // shape[0])
    block = (down * _BLOCKS + across).astype(np.intp)
    points = np.bincount(block, minlength=_BLOCKS**2)
    moved = np.bincount(block, weights=edges.moved[away], minlength=_BLOCKS**2)
    tells = points >= _FEW_EDGES
    moves = np.count_nonzero(tells & (moved >= _MOVES * points))
    return bool(np.count_nonzero(tells) >= _FEW_BLOCKS and moves >= _MOVE * np.count_nonzero(tells))


def _is_moved(regions: Regions, label: int, look: Look, ground: Plane) -> bool:
    """Return whether a region shows the `ground`, which is `_REACH` pixels wider than the image."""
    left, top, width, height = regions.boxes[label].tolist()
    box, inside = (slice(top, top + height), slice(left, left + width)), regions.part(label)[1]
    seen = look.corrected[box]
    searched = ground[top : top + height + 2 * _REACH, left : left + width + 2 * _REACH]
    errors = cv2.matchTemplate(searched, seen, cv2.TM_SQDIFF, mask=inside)
    least, _, (across, down), _ = cv2.minMaxLoc(errors)
    if errors[_REACH, _REACH] <= least:
        return False

    def different(other: Plane) -> int:
        differs = u8(cv2.compare(cv2.absdiff(seen, other), look.whole_threshold[box], cv2.CMP_GT))
        return cv2.countNonZero(cv2.bitwise_and(differs, inside))

    at_rest = searched[_REACH : _REACH + height, _REACH : _REACH + width]
    moved = searched[down : down + height, across : across + width]
    if different(moved) >= _EXPLAINED * different(at_rest):
        return False
    now, then = (texture(each)[inside > 0] for each in (seen, moved))
    return float(now @ then) > _ALIKE * math.sqrt(float(now @ now) * float(then @ then))
