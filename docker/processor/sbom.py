"""Write the image's bill of materials: CycloneDX 1.6, from what is really installed.

    sbom.py REQUIREMENTS >sbom.cdx.json

Python's packages come from the interpreter that runs this, with the hashes of the files that REQUIREMENTS
allowed for them; Debian's come from dpkg's status. No network, and the same input gives the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

DPKG_STATUS = Path("/var/lib/dpkg/status")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def allowed_hashes(requirements: str) -> dict[str, list[str]]:
    """Return the SHA-256 of each package's allowed files, by normalised name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in requirements.splitlines():
        pin = re.match(r"([A-Za-z0-9._-]+)==", line)
        if pin:
            name = normal(pin[1])
            found[name] = []
        if name:
            found[name] += re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
    return found


def python_components(hashes: dict[str, list[str]]) -> list[dict[str, Any]]:
    components = []
    for package in metadata.distributions():
        name = normal(package.metadata["Name"])
        purl = f"pkg:pypi/{name}@{package.version}"
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": package.version,
            "purl": purl,
        }
        licence = package.metadata.get("License-Expression") or ""
        if licence:
            component["licenses"] = [{"expression": licence}]
        # Which of them was installed depends on the platform; only a single one is certain.
        if len(hashes.get(name, [])) == 1:
            component["hashes"] = [{"alg": "SHA-256", "content": hashes[name][0]}]
        components.append(component)
    return components


def debian_components(status: str) -> list[dict[str, Any]]:
    components = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status") != "install ok installed":
            continue
        purl = f"pkg:deb/debian/{fields['Package']}@{fields['Version']}?arch={fields['Architecture']}"
        components.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": fields["Package"],
                "version": fields["Version"],
                "purl": purl,
            }
        )
    return components


def main() -> None:
    hashes = allowed_hashes(Path(sys.argv[1]).read_text(encoding="utf-8"))
    debian = debian_components(DPKG_STATUS.read_text(encoding="utf-8")) if DPKG_STATUS.exists() else []
    components = sorted([*python_components(hashes), *debian], key=lambda component: component["bom-ref"])
    ours = next(component for component in components if component["name"] == "async-motion")
    components.remove(ours)
    python = f"pkg:generic/python@{'.'.join(map(str, sys.version_info[:3]))}"
    components.append(
        {
            "type": "platform",
            "bom-ref": python,
            "name": "python",
            "version": python.partition("@")[2],
            "purl": python,
        }
    )
    refs = " ".join(component["bom-ref"] for component in components)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, refs)}",
        "version": 1,
        "metadata": {"component": ours | {"type": "application"}},
        "components": components,
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
