"""Single files of npm packages without dependencies, fetched once into the user's cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.support.need import need


def package(spec: str) -> Path:
    """Return the unpacked folder of an npm package, `name@version`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async_motion"
    target = cache / spec
    if (target / "package/package.json").is_file():
        return target / "package"
    npm = shutil.which("npm")
    need(npm is not None, "npm")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        done = subprocess.run(
            [npm or "npm", "pack", "--silent", spec], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(Path(folder) / done.stdout.split()[-1]) as archive:
            archive.extractall(folder, filter="data")
        try:
            Path(folder).rename(target)  # atomic
        except OSError:
            assert target.is_dir(), "another test has fetched it"
        else:
            Path(folder).mkdir()
    return target / "package"
