"""Monitoring: the service's metrics, the alerts on them, and the dashboard."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.wait import eventually

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config/prometheus/alerts.yml"
TESTS = ROOT / "config/prometheus/alerts_test.yml"
DASHBOARD = ROOT / "config/grafana/dashboard.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "async_motion/prometheus/usr/bin"
"""Where .ci/run unpacks Debian's package instead of installing it, which would start the server."""

SELDOM = {
    "async_motion_camera_dropped_frames_total",
    "async_motion_certificate_expiry_timestamp_seconds",
    "async_motion_fleet_unowned_cameras",
    "async_motion_spool_dropped_total",
}
"""Metrics that a service without TLS, without losses and outside a fleet does not export."""


def need(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path=str(CACHE))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed: apt-get install prometheus, or .ci/run")
    return found


def run(*command: str | Path, stdin: bytes | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, cwd=RULES.parent)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def expressions() -> list[str]:
    """Return all PromQL expressions of the dashboard and the alerts."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    found = [expr.replace("$instance", ".*").replace("$__rate_interval", "1m") for expr in found]
    return found + [rule["expr"] for rule in alerts()]


def names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:async_motion|process)_[a-z_]+\b", expression))


def test_every_alert_fires_and_stays_quiet_when_it_should() -> None:
    promtool = need("promtool")
    assert "SUCCESS" in run(promtool, "check", "rules", RULES)
    assert "SUCCESS" in run(promtool, "test", "rules", TESTS)
    tried: dict[str, set[bool]] = {}
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            tried.setdefault(case["alertname"], set()).add(bool(case.get("exp_alerts")))
    assert tried == {rule["alert"]: {True, False} for rule in alerts()}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service that has stored a frame."""
    port = free_port()
    settings = {"instance": "edge1", "mqtt": {"port": free_port()}, "web": {"port": port}}
    with Service(settings, tmp_path_factory.mktemp("service")) as service:
        service.wait_for_log("stored", within_s=120)
        eventually(lambda: fetch(f"http://127.0.0.1:{port}/metrics"), within_s=60, what="metrics")
        yield f"http://127.0.0.1:{port}"


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_promtool_has_nothing_to_say_of_the_metrics(service: str) -> None:
    assert run(need("promtool"), "check", "metrics", stdin=fetch(f"{service}/metrics")) == ""


def test_every_metric_that_is_watched_is_exported(service: str) -> None:
    text = fetch(f"{service}/metrics").decode()
    exported = set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.MULTILINE))
    for expression in expressions():
        assert names(expression) <= exported | SELDOM, expression


def test_a_real_prometheus_takes_every_expression(service: str, tmp_path: Path) -> None:
    program = need("prometheus")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {
                        "job_name": "async_motion",
                        "static_configs": [{"targets": [service.removeprefix("http://")]}],
                    }
                ],
            }
        )
    )
    command = [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        try:

            def ask(expression: str) -> Any:
                query = urllib.parse.urlencode({"query": expression})
                answer = fetch(f"http://127.0.0.1:{port}/api/v1/query?{query}")
                return json.loads(answer)["data"]["result"] if answer else None

            eventually(lambda: ask('up{job="async_motion"} == 1'), within_s=90, what="a scrape")
            eventually(lambda: ask("rate(async_motion_camera_frames_total[1m])"), within_s=90, what="a rate")
            for expression in expressions():
                assert ask(expression) is not None, f"Prometheus refuses {expression}"
            panels = json.loads(DASHBOARD.read_text())["panels"]
            for panel in panels:
                (first, *_) = [target["expr"] for target in panel["targets"]]
                if names(first) & SELDOM:
                    continue
                asked = first.replace("$instance", ".*").replace("$__rate_interval", "1m")
                eventually(partial(ask, asked), within_s=60, what=f"{panel['title']}: {asked}")
            # No alert fires for a healthy service.
            assert ask('ALERTS{alertstate="firing", alertname!="DiskFull"}') == []
        finally:
            process.terminate()
            process.wait(60)
