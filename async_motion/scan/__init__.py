"""`async-motion scan`: run the service's pipeline over recordings, on all cores or a Ray cluster.

    paths ──find──▶ Recordings ──plan──▶ ScanSpecs ──runner──▶ engine ──task──▶ ScanOutcomes, in order
                                            │                                      └ ledger: markers, index
                                            └ in this process, in processes, on Ray

A task is a pure function of a recording and its settings (see `task`): the results do not depend on how many
tasks run at a time, nor where.
"""

from __future__ import annotations

from async_motion.scan.cluster import RayCluster
from async_motion.scan.engines import Engine, InProcess, Processes
from async_motion.scan.find import find_recordings
from async_motion.scan.model import Recording, ScanOutcome, ScanSpec, ScanTask
from async_motion.scan.plan import specs_for
from async_motion.scan.runner import ScanProgress, ScanStopped, scan

__all__ = [
    "Engine",
    "InProcess",
    "Processes",
    "RayCluster",
    "Recording",
    "ScanOutcome",
    "ScanProgress",
    "ScanSpec",
    "ScanStopped",
    "ScanTask",
    "find_recordings",
    "scan",
    "specs_for",
]
