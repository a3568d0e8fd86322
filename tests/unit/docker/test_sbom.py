"""sbom.py: each installed package and nothing else, with a hash where only one file was allowed."""

from __future__ import annotations

import json
import runpy
from importlib import metadata
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "docker/processor/sbom.py"
sbom = runpy.run_path(str(SCRIPT))
REQUIREMENTS = """\
# made by uv
aiomqtt==2.3.0 \\
    --hash=sha256:{a}
    # via async-motion
PyYAML==6.0.2 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
""".format(a="a" * 64, b="b" * 64)
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Description: a library
 with a second line

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def test_hashes_are_read_by_normalised_name() -> None:
    assert sbom["allowed_hashes"](REQUIREMENTS) == {"aiomqtt": ["a" * 64], "pyyaml": ["a" * 64, "b" * 64]}


def test_a_package_that_was_removed_is_not_listed() -> None:
    (found,) = sbom["debian_components"](STATUS)
    assert found["purl"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64"


def test_it_lists_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requirements.txt").write_text(REQUIREMENTS)
    monkeypatch.setattr("sys.argv", ["sbom.py", str(tmp_path / "requirements.txt")])
    sbom["main"]()
    said = capsys.readouterr().out
    document = json.loads(said)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["name"] == "async-motion"
    listed = {part["purl"] for part in document["components"] if part["purl"].startswith("pkg:pypi/")}
    installed = {
        f"pkg:pypi/{sbom['normal'](package.metadata['Name'])}@{package.version}"
        for package in metadata.distributions()
    }
    assert listed == {purl for purl in installed if not purl.startswith("pkg:pypi/async-motion@")}
    by_name = {part["name"]: part for part in document["components"]}
    assert by_name["aiomqtt"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert "hashes" not in by_name["pyyaml"], "which of two files was installed is not known"

    sbom["main"]()
    assert capsys.readouterr().out == said, "the same input gives the same bytes"
