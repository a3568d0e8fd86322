"""`async-motion install`: make it a service of systemd, for the machine or for one user.

It writes a unit, settings and, for the machine, a user of its own, and says what it did. It starts nothing,
and never touches settings that are there. Settings hold camera passwords: they are closed to other users.
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
"""What only the system's own manager can do; a user's service runs as that user anyway."""


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """Where everything goes. `unit` is the text of the unit."""

    unit_path: Path
    unit: str
    settings_path: Path
    commands: tuple[str, ...]
    user_path: Path | None = None
    """systemd's declaration of the service's user (sysusers.d). None: it runs as the one who asks."""


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
    """Return the plan for a service of the machine. Raises UsageError where it could not run `program`."""
    if str(program).startswith(HOMES):
        raise UsageError(
            f"{program} lies in a home, which the service cannot see, expected a place such as "
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
    """Return the plan for a service of the user who asks."""
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
    """Write what the plan holds, or with `dry` nothing; return what was done, a line each. Raises OSError."""
    would = "would write" if dry else "wrote"
    said = [_write(plan.unit_path, plan.unit, dry=dry)]
    if plan.user_path is not None:
        said.append(_write(plan.user_path, f'u {USER} - "async_motion" /var/lib/{USER}\n', dry=dry))
    if plan.settings_path.exists():
        said.append(f"kept  {plan.settings_path}: your settings")
        return said
    if not dry:
        plan.settings_path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(plan.settings_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as file:
            file.write(shipped().read_text(encoding="utf-8"))
    said.append(f"{would}  {plan.settings_path}: pristine settings, with a synthetic camera")
    return said


def _write(path: Path, text: str, *, dry: bool) -> str:
    """Write a file of ours and return what was done."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return f"unchanged  {path}"
    replaced = " (replaced)" if path.exists() else ""
    if dry:
        return f"would write  {path}{replaced}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return f"wrote  {path}{replaced}"


def _unit(program: Path) -> str:
    text = (resources.files("async_motion.cli") / "units" / UNIT).read_text(encoding="utf-8")
    return text.replace("/opt/async_motion/bin/async-motion", str(program))
