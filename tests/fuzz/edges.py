"""Coverage-guided fuzzing (atheris, libFuzzer) of the edges that `unit/test_edges.py` lists.

    python -m tests.fuzz.edges "a command" --seconds 60

An exception that an edge does not name ends the run with its traceback and an
exit code that is not 0. libFuzzer writes the input to the working directory.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from contextlib import suppress


def main() -> None:
    """Fuzz one edge for a bounded time. Does not return: libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description="Fuzz one edge.")
    parser.add_argument("edge")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["async_motion"]):
        edges = importlib.import_module("tests.unit.test_edges")
    read, error = edges.EDGES[chosen.edge]

    def one(data: bytes) -> None:
        with suppress(error):
            read(data)

    options = [
        f"-max_total_time={chosen.seconds}",
        f"-seed={chosen.seed}",
        "-max_len=4096",
        "-rss_limit_mb=4096",  # the modules with their counters take more than 1 GiB
    ]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
