"""`async-motion install`: install a systemd unit, for the system or for one user.

It writes the unit, the settings and, for the system, a service user, and prints what it did. It starts
nothing and never overwrites existing settings. Settings hold camera passwords: other users cannot read them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from async_motion.errors import AsyncMotionError, UsageError
from async_motion.settings import shipped

UNIT = "async-motion.service"
USER = "async_motion"
HOMES = ("/home/", "/root/")
NEEDS_SYSTEM = re.compile(
    r"^(User|Group|ConfigurationDirectory|Protect\w+|Private\w+|ProcSubset|DevicePolicy|"
    r"CapabilityBoundingSet|AmbientCapabilities|RemoveIPC|RestrictNamespaces)=.*\n",
    re.MULTILINE,
)
"""Directives that only the system manager supports; a user service runs as its user anyway."""


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """The files to write and the commands to run next. `unit` is the text of the unit."""

    unit_path: Path
    unit: str
    settings_path: Path
    commands: tuple[str, ...]
    user_path: Path | None = None
    """The sysusers.d file that declares the service's user. None: it runs as the current user."""


def main(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    program = Path(sys.argv[0]).absolute()
    if program.name != "async-motion":
        program = Path(sys.executable).absolute().with_name("async-motion")
    plan = plan_for_system(program, args.root) if args.system else plan_for_user(program, os.environ)
    try:
        for line in carry_out(plan, dry=args.dry_run):
            print(line)
    except OSError as exc:
        hint = ": --system needs root" if isinstance(exc, PermissionError) and args.system else ""
        raise AsyncMotionError(f"{exc.filename}: {(exc.strerror or 'failed').lower()}{hint}") from exc
    print("next:", *(f"  {command}" for command in plan.commands), sep="\n")
    return 0


def plan_for_system(program: Path, root: Path) -> InstallPlan:
    """Return the plan for a system service. Raises UsageError if `program` is in a home directory."""
    if str(program).startswith(HOMES):
        raise UsageError(
            f"{program} is in a home folder, which the service cannot see, expected a place such as "
            "/opt/async_motion, or --user"
        )
    return InstallPlan(
        unit_path=root / "etc/systemd/system" / UNIT,
        unit=_unit(program),
        settings_path=root / "etc/async_motion/variables.yaml",
        user_path=root / "etc/sysusers.d/async-motion.conf",
        commands=(
            "systemd-sysusers",
            f"chgrp {USER} {root / 'etc/async_motion/variables.yaml'}",
            "systemctl daemon-reload",
            "systemctl enable --now async-motion",
        ),
    )


def plan_for_user(program: Path, env: Mapping[str, str]) -> InstallPlan:
    """Return the plan for a service of the current user."""
    config = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    settings = config / "async_motion/variables.yaml"
    text = NEEDS_SYSTEM.sub("", _unit(program))
    text = text.replace("/etc/async_motion/variables.yaml", str(settings))
    text = text.replace("SystemCallFilter=~@privileged @resources", "SystemCallFilter=~@privileged")
    text = text.replace("WantedBy=multi-user.target", "WantedBy=default.target")
    return InstallPlan(
        unit_path=config / "systemd/user" / UNIT,
        unit=text,
        settings_path=settings,
        commands=(
            "systemctl --user daemon-reload",
            "systemctl --user enable --now async-motion",
            "loginctl enable-linger    # so that it runs while you are not logged in",
        ),
    )


def carry_out(plan: InstallPlan, *, dry: bool) -> list[str]:
    """Write the plan's files, or none with `dry`; return a line for each. Raises OSError."""
    would = "would write" if dry else "wrote"
    lines = [_write(plan.unit_path, plan.unit, dry=dry)]
    if plan.user_path is not None:
        lines.append(_write(plan.user_path, f'u {USER} - "async_motion" /var/lib/{USER}\n', dry=dry))
    if plan.settings_path.exists():
        lines.append(f"kept  {plan.settings_path}: your settings")
        return lines
    if not dry:
        _make_folder(plan.settings_path.parent)
        with os.fdopen(os.open(plan.settings_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
            os.fchmod(file.fileno(), 0o640)
            file.write(shipped().read_text(encoding="utf-8"))
    lines.append(f"{would}  {plan.settings_path}: the default settings, with a synthetic camera")
    return lines


def _write(path: Path, text: str, *, dry: bool) -> str:
    """Write a file unless its text is unchanged; return a line that says what was done."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return f"unchanged  {path}"
    replaced = " (replaced)" if path.exists() else ""
    if dry:
        return f"would write  {path}{replaced}"
    _make_folder(path.parent)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return f"wrote  {path}{replaced}"


def _make_folder(path: Path) -> None:
    """Create a folder and those above it that the service's user can enter, whatever root's umask is."""
    for folder in reversed((path, *path.parents)):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)


def _unit(program: Path) -> str:
    text = (resources.files("async_motion.cli") / "units" / UNIT).read_text(encoding="utf-8")
    return text.replace("/opt/async_motion/bin/async-motion", str(program))
