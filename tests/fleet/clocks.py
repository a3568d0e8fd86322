"""A process's wall clock that leaps while it runs, by a small preloaded library (`leap.c`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("leap.c")


def can_leap() -> bool:
    """Return whether there is a compiler for the library."""
    return shutil.which("cc") is not None


def build(folder: Path) -> Path:
    """Compile the library into `folder`; return its path."""
    library = folder / "leap.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class LeapingClock:
    """The wall clock of the processes that run with `env`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        file.write_bytes(bytes(8))
        self.env = {"LD_PRELOAD": str(library), "LEAP_FILE": str(file)}

    def leap(self, seconds: int) -> None:
        """Set the clock to `seconds` from the machine's; it shows that at once."""
        with self._file.open("r+b", buffering=0) as file:  # in place: it is mapped
            file.write(seconds.to_bytes(8, "little", signed=True))
