"""`async-motion tune`: score a camera's settings on labelled clips, and search for better ones.

    clips ──read once──▶ Bench ──each clip judged once for each candidate, cached──▶ search ──▶ report
                                                                                       └ cross-validation

The camera's masks and zones are not changed. Settings fitted to clips score too well on the same clips. With
enough clips, the gain is therefore cross-validated: some clips are held out in turn, and settings without a
gain on those are shown but not recommended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import (
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from async_motion.app.specs import detector_settings
from async_motion.core.options import DEMO_SOURCE
from async_motion.errors import UsageError
from async_motion.settings import CameraSettings, Settings
from async_motion.tune import clips as footage
from async_motion.tune import search
from async_motion.tune.report import print_json, print_report
from async_motion.tune.trials import Bench, Present, find

__all__ = ["Present", "present", "tune"]

MEMORY_BYTES = 512 << 20
"""Memory for the reduced frames: about half an hour at 5 frames a second."""


def present(settings: Settings | None, name: str | None, *, night: bool = False) -> Present:
    """Return a camera's settings by day or at night; the defaults if `name` is None.

    Raises UsageError if there is no such camera.
    """
    cameras = settings.cameras if settings is not None else {}
    if name is not None and name not in cameras:
        raise UsageError(f"--camera {name}: no such camera, expected one of {', '.join(cameras)}")
    camera = cameras[name] if name is not None else CameraSettings.model_validate({"source": DEMO_SOURCE})
    return Present(
        camera=name,
        night=night,
        fps=camera.detect.fps,
        detection=detector_settings(camera, night=night),
        confirm=(camera.event.confirm.hits, camera.event.confirm.of),
    )


def tune(
    files: Sequence[Path],
    start: Present,
    *,
    labels: Path | None,
    as_json: bool,
    miss_cost: float = search.MISS_COST,
    memory_bytes: int = MEMORY_BYTES,
) -> int:
    """Score the settings `start` on the clips, search for better ones, print both; return the exit code.

    Raises UsageError for clips and labels that cannot be used. Blocks; do not call it in an event loop.
    """
    cv2.setNumThreads(1)
    labelled = footage.read_labels(labels) if labels is not None else {}
    chosen, unused = footage.label_clips(footage.find_clips(files), labelled, labels)
    notes = Console(stderr=True, highlight=False)
    if unused:
        notes.print(f"{labels}: not among the given clips: {', '.join(unused)}", markup=False, soft_wrap=True)

    memory = footage.ClipMemory(memory_bytes)
    clips = []
    with _progress(notes, "reading the clips", len(chosen)) as step:
        for path, label in chosen:
            step(path.name)
            clips.append(footage.read_clip(path, label, fps=start.fps, memory=memory))
    with _progress(notes, "trying settings", None) as step:
        bench = Bench(
            clips, start.detection, miss_cost=miss_cost, on_look=lambda tried: step(f"{tried} so far")
        )
        outcome = find(bench, start)
    (print_json if as_json else print_report)(bench, start, outcome)
    return 0


@contextmanager
def _progress(console: Console, what: str, count: int | None) -> Iterator[Callable[[str], None]]:
    """Yield a function that advances the progress by one step, with a label. Drawn only on a terminal."""
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    ]
    if count is not None:
        columns.insert(2, MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=count)

        def step(word: str) -> None:
            progress.update(task, description=f"{what}: {word}", advance=1)

        yield step
