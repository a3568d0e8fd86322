"""`async-motion install`: what it writes, keeps and prints; systemd accepts the shipped units."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from async_motion.cli.command_line import main
from async_motion.cli.install import plan_for_system, plan_for_user
from async_motion.errors import UsageError
from async_motion.settings import load, shipped

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "config/systemd/async-motion.service"


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


def test_the_unit_beside_the_settings_is_the_one_that_is_installed() -> None:
    assert UNIT.read_text() == (ROOT / "async_motion/cli/units/async-motion.service").read_text()


@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_units(scope: str, tmp_path: Path) -> None:
    analyze = need("systemd-analyze")
    program = tmp_path / "async-motion"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (
        plan_for_user(program, {"XDG_CONFIG_HOME": str(tmp_path)}).unit
        if scope == "user"
        else UNIT.read_text().replace("/opt/async_motion/bin/async-motion", str(program))
    )
    unit = tmp_path / "async-motion.service"
    unit.write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "async-motion" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_sandbox_is_tight() -> None:
    analyze = need("systemd-analyze")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", UNIT],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]
    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 1.5


def test_install_for_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/am/bin/async-motion", "install"])
    command = ["install", "--system", "--root", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"
    assert "would write" in capsys.readouterr().out

    assert main(command) == 0
    said = capsys.readouterr().out
    unit = tmp_path / "etc/systemd/system/async-motion.service"
    settings = tmp_path / "etc/async_motion/variables.yaml"
    for path in (unit, settings, tmp_path / "etc/sysusers.d/async-motion.conf"):
        assert f"wrote  {path}" in said
    assert "ExecStart=/opt/am/bin/async-motion run" in unit.read_text()
    assert "systemctl enable --now async-motion" in said
    assert settings.read_text() == shipped().read_text()
    assert stat.S_IMODE(settings.stat().st_mode) & 0o007 == 0, "camera passwords will stand in it"
    assert load(settings, {}).cameras

    settings.write_text("instance: mine\n")
    unit.write_text("of an older version")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"wrote  {unit} (replaced)" in said
    assert f"kept  {settings}: your settings" in said
    assert settings.read_text() == "instance: mine\n"
    main(command)
    assert f"unchanged  {unit}" in capsys.readouterr().out


def test_the_services_user_can_read_what_a_careful_root_installs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/am/bin/async-motion", "install"])
    before = os.umask(0o077)
    try:
        assert main(["install", "--system", "--root", str(tmp_path)]) == 0
    finally:
        os.umask(before)
    settings = tmp_path / "etc/async_motion/variables.yaml"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (settings, settings.parent)}
    assert modes == {"variables.yaml": 0o640, "async_motion": 0o755}
    for path in ("etc", "etc/systemd/system", "etc/sysusers.d"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o755


def test_install_for_a_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["/home/me/venv/bin/async-motion", "install"])
    assert main(["install", "--user"]) == 0
    text = (tmp_path / "systemd/user/async-motion.service").read_text()
    assert "ExecStart=/home/me/venv/bin/async-motion run" in text
    assert f"ASYNC_MOTION_CONFIG={tmp_path}/async_motion/variables.yaml" in text
    assert "WantedBy=default.target" in text
    assert not re.search(r"^(User|Group|ProtectHome|PrivateUsers)=", text, re.MULTILINE)
    assert "enable-linger" in capsys.readouterr().out


def test_a_program_in_a_home_is_refused_for_the_machine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is in a home"):
        plan_for_system(Path("/home/me/venv/bin/async-motion"), tmp_path)


def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/am/bin/async-motion"])
    (tmp_path / "etc").write_text("a file in the way")
    assert main(["install", "--system", "--root", str(tmp_path)]) == 1
    assert "etc" in capsys.readouterr().err
