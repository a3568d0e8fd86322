from __future__ import annotations

import pickle
from pathlib import Path

from async_motion.scan import Recording
from tests.unit.scan.kit import settings_in, spec_of

PORCH = Recording(place="/rec/a.mp4", name="a.mp4", size=1, camera="porch")
YARD = Recording(place="/rec/b.mp4", name="b.mp4", size=1, camera="yard")


def test_a_camera_of_the_settings_has_its_own_and_others_the_defaults(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, detect={"fps": 3, "enabled": False})
    assert spec_of(settings, PORCH).settings.cameras["porch"].detect.fps == 3
    assert spec_of(settings, PORCH).settings.cameras["porch"].detect.enabled, "it was asked for"
    assert spec_of(settings, YARD).settings.cameras["yard"].detect.fps == 5


def test_no_secret_travels_that_is_not_needed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    minio = settings.minio.model_copy(update={"endpoint": "s3:9000", "access_key": "top-key"})
    settings = settings.model_copy(update={"minio": minio})
    alone = pickle.dumps(spec_of(settings, PORCH))
    assert b"very-secret" not in alone
    assert b"top-key" not in alone
    storing = pickle.dumps(spec_of(settings, PORCH, store=True))
    assert b"very-secret" not in storing
    assert b"top-key" in storing, "it is how the store is reached"


def test_paths_hold_in_every_working_directory(tmp_path: Path) -> None:
    spec = spec_of(settings_in(tmp_path), PORCH, out=Path("out"))
    assert spec.out == Path.cwd() / "out"
    assert spec.settings.directory.path.is_absolute()


def test_the_fingerprint_is_of_what_the_results_depend_on(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    print_of = spec_of(settings, PORCH).fingerprint
    assert spec_of(settings, PORCH, threads=4, stills=True, out=tmp_path).fingerprint == print_of
    assert spec_of(settings, PORCH, decode="auto").fingerprint != print_of
    other = settings_in(tmp_path, detect={"masks": [[[0, 0], [1, 0], [1, 1]]]})
    assert spec_of(other, PORCH).fingerprint != print_of
    assert spec_of(settings, PORCH, stills=True, store=True).makes == ("stills", "store")
