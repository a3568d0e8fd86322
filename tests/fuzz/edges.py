"""Coverage-guided fuzzing (atheris, libFuzzer) of the edges in `support/edges.py`.

    python -m tests.fuzz.edges --seconds 60 [--only "a command"]

The first byte of an input chooses the edge, the rest is what it reads; the corpus begins with what each edge
accepts. An exception that an edge does not name ends the run with its traceback and an exit code that is not
0. libFuzzer writes the input to the working directory.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

INSTRUMENTED = [
    "async_motion.camera.detector_state",
    "async_motion.client.messages",
    "async_motion.core",
    "async_motion.home_assistant.places",
    "async_motion.retrieval.summaries",
    "async_motion.settings",
    "async_motion.spool.codec",
    "async_motion.status.memory",
    "async_motion.store.s3errors",
    "async_motion.tune.clips",
]
"""The modules that read: coverage of others would only cost time."""


def main() -> None:
    """Fuzz the edges for a bounded time. Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz the edges.")
    parser.add_argument("--only", nargs="+", metavar="EDGE", default=[])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED):
        edges = importlib.import_module("tests.support.edges").EDGES
    names = chosen.only or list(edges)
    reads = dict.fromkeys(names, 0)

    def one(data: bytes) -> None:
        if not data:
            return
        name = names[data[0] % len(names)]
        reads[name] += 1
        if reads[name] == 100:
            print(f"100 reads: {name}", file=sys.stderr, flush=True)  # a test counts them
        with suppress(edges[name].error):
            edges[name].read(data[1:])

    with tempfile.TemporaryDirectory(prefix="async_motion-edges-") as folder:
        for number, name in enumerate(names):
            (Path(folder) / f"{number}").write_bytes(bytes([number]) + edges[name].accepted)
        options = [
            f"-max_total_time={chosen.seconds}",
            f"-seed={chosen.seed}",
            "-max_len=4096",
            "-rss_limit_mb=4096",  # the modules with their counters take more than 1 GiB
        ]
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
