"""Single files of npm packages without dependencies, fetched once into the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.support.cache import cached
from tests.support.need import need


def package(spec: str) -> Path:
    """Return the unpacked folder of an npm package, `name@version`."""

    def fetch(folder: Path) -> None:
        npm = shutil.which("npm")
        need(npm is not None, "npm")
        done = subprocess.run(
            [npm or "npm", "pack", "--silent", spec], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder / done.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
        assert (folder / "package/package.json").is_file()

    return cached(spec, fetch) / "package"
