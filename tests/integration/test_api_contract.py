"""The API against its OpenAPI document: schemathesis sends the service valid and invalid requests."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.support.ports import free_port
from tests.support.service import Service

# An editor's change may be well-formed but invalid: the service answers 422, as documented.
NOT_CHECKED = "positive_data_acceptance,missing_required_header,unsupported_method"
STREAMS = "(stream|/news)$"


def test_the_service_answers_as_its_document_says(tmp_path: Path) -> None:
    port = free_port()
    settings = {"instance": "edge1", "web": {"port": port}, "mqtt": {"port": free_port()}}
    with Service({**settings, "cameras": {"porch": {"source": "demo:"}}}, tmp_path / "service") as service:
        service.wait_for_log("porch: watching")
        base = f"http://127.0.0.1:{port}/api/v1"
        with urllib.request.urlopen(f"{base}/openapi.json", timeout=30) as answer:
            document = json.load(answer)
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(document))
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run", str(file), "--url", base,
                "--exclude-path-regex", STREAMS, "--exclude-checks", NOT_CHECKED, "--seed", "1",
                "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--request-timeout", "30",
            ],
            capture_output=True, text=True, timeout=110, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        assert "this is a bug" not in service.log_text()
