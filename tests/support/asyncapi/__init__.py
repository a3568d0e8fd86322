"""The official AsyncAPI parser, installed from npm with a lock file into the user's cache.

said = judge(text)   {"valid": …, "diagnostics": [{"severity": 0, …}]}
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.need import need

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json", "check.mjs")


def judge(document: str) -> dict[str, Any]:
    """Return the parser's verdict on a document. Severity 0 is an error, 1 a warning."""
    done = subprocess.run(
        [_program("node"), str(_installed() / "check.mjs")],
        input=document,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def _installed() -> Path:
    """Return the folder with the parser; install it if it is missing."""
    content = b"".join((_HERE / name).read_bytes() for name in _FILES)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async_motion"
    target = cache / f"asyncapi-{hashlib.sha256(content).hexdigest()[:12]}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        for name in _FILES:
            shutil.copy(_HERE / name, folder)
        command = [_program("npm"), "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
        try:
            Path(folder).rename(target)  # atomic
        except OSError:
            assert target.is_dir(), "another test has installed it"
        else:
            Path(folder).mkdir()
    return target


def _program(name: str) -> str:
    path = shutil.which(name)
    need(path is not None, name)
    assert path is not None
    return path
