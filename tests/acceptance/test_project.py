"""The project's files agree: the version, the Pythons, the hooks and what CI runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import async_motion
from tests.support.readme import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert metadata.version("async-motion") == async_motion.__version__
    for name in ("pyproject.toml", "docker/processor/Dockerfile", "docker/compose.yaml"):
        assert async_motion.__version__ not in (ROOT / name).read_text(encoding="utf-8"), name
    (image,) = _yaml("docker/kubernetes/kustomization.yaml")["images"]
    assert image["newTag"] == async_motion.__version__, "the one copy that kubectl reads"


def test_ci_runs_every_python_that_the_project_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    jobs = _yaml(".github/workflows/ci.yml")["jobs"]
    assert jobs["suite"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["project"]["requires-python"] == f">={named[0]}"


def test_a_release_compares_its_tag_with_the_version() -> None:
    steps = [step for job in _yaml(".github/workflows/release.yml")["jobs"].values() for step in job["steps"]]
    (compare,) = [step["run"] for step in steps if "$TAG" in step.get("run", "")]
    for tag, code in ((f"v{async_motion.__version__}", 0), ("v99.0.0", 1)):
        done = subprocess.run(["bash", "-e", "-c", compare], cwd=ROOT, env=os.environ | {"TAG": tag})
        assert done.returncode == code


def test_ci_calls_parts_that_exist() -> None:
    parts = re.findall(r"^#   (\w+) ", RUN, re.MULTILINE)
    steps = [step for job in _yaml(".github/workflows/ci.yml")["jobs"].values() for step in job["steps"]]
    called = [step["run"].removeprefix("bash .ci/run ") for step in steps if "run" in step]
    assert sorted(called) == sorted(parts)
    wrong = subprocess.run(["bash", ".ci/run", "nothing"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert all(part in wrong.stderr for part in parts)


UNSTEADY = """
import pathlib
def test_unsteady():
    runs = pathlib.Path("runs")
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    assert len(runs.read_text()) not in {fails}
"""


@pytest.mark.parametrize(
    ("fails", "code", "runs"),
    [({0}, 0, 1), ({1}, 0, 4), ({1, 2}, 1, 2), ({1, 4}, 1, 4)],
    ids=["passes", "once", "twice", "again"],
)
def test_ci_forgives_what_passes_three_times_alone(
    tmp_path: Path, fails: set[int], code: int, runs: int
) -> None:
    (tmp_path / "test_one.py").write_text(UNSTEADY.replace("{fails}", repr(fails)))
    functions = re.search(r"^unsteady=.*?^}$", RUN, re.MULTILINE | re.DOTALL)
    assert functions is not None
    script = f'set -euo pipefail\n{functions[0]}\nattempt "$@"\necho "named: ${{unsteady[*]}}"'
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-c", "/dev/null", "--rootdir=."]
    done = subprocess.run(
        ["bash", "-c", script, "run", *pytest_alone],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert len((tmp_path / "runs").read_text()) == runs
    assert ("named: test_one.py::test_unsteady" in done.stdout) == (fails == {1})


def test_the_hooks_are_what_ci_runs() -> None:
    (local,) = _yaml(".pre-commit-config.yaml")["repos"]
    tools = [hook["entry"].replace(" --force-exclude", "") for hook in local["hooks"]]
    lines = [line.strip().replace(" --check", "") for line in RUN.splitlines()]
    for tool in tools:
        assert any(line == tool or line.startswith(f"{tool} ") for line in lines), tool
    assert len(tools) == len([line for line in lines if re.match(r"\.venv/bin/(?!pip|uv|python)", line)])


def test_issue_forms_ask_for_what_a_report_needs() -> None:
    forms = {
        path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/ISSUE_TEMPLATE").iterdir()
    }
    assert forms["config"] == {"blank_issues_enabled": False}
    for name, form in forms.items():
        if name == "config":
            continue
        assert {"name", "description", "body"} <= form.keys(), name
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields), name
        assert all(field["attributes"]["label"] for field in fields), name
    required = {field["id"] for field in forms["bug"]["body"] if field.get("validations", {}).get("required")}
    assert required >= {"what", "probe", "log", "version"}
