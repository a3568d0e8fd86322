"""The files under docker/kubernetes: they render, are valid for Kubernetes, and suit the service."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from async_motion.settings import load
from async_motion.settings.quantities import duration_of
from tests.support.need import need

BASE = Path(__file__).parents[2] / "docker/kubernetes"
VERSIONS = ("1.30", "1.34")


KUBECTL = shutil.which("kubectl")


def rendered() -> list[dict[str, Any]]:
    """Return the base as kubectl renders it."""
    assert KUBECTL is not None
    done = subprocess.run([KUBECTL, "kustomize", str(BASE)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def documents() -> list[dict[str, Any]]:
    """Return the base, assembled as Kustomize would."""
    plan = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert plan.keys() <= {"apiVersion", "kind", "namespace", "resources", "images"}, "the rest needs kubectl"
    found = [
        document
        for name in plan["resources"]
        for document in yaml.safe_load_all((BASE / name).read_text())
        if document is not None
    ]
    for document in found:
        if document["kind"] != "Namespace":
            document["metadata"]["namespace"] = plan["namespace"]
        for container in containers(document):
            for image in plan["images"]:
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def containers(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    template = document.get("spec", {}).get("template", {})
    found: list[dict[str, Any]] = template.get("spec", {}).get("containers", [])
    return found


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = (d for d in documents() if d["kind"] == kind and d["metadata"]["name"] == name)
    return found


def test_kubectl_renders_what_the_other_tests_judge() -> None:
    need(KUBECTL is not None, "kubectl")

    def by_name(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(found, key=lambda document: (document["kind"], document["metadata"]["name"]))

    assert by_name(rendered()) == by_name(documents())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_document(version: str) -> None:
    found = documents()
    assert {document["kind"] for document in found} >= {
        *("Deployment", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap", "Namespace"),
    }
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)


def test_every_container_is_bounded_and_without_rights() -> None:
    found = [(d, c) for d in documents() for c in containers(d)]
    assert len(found) == 2
    for document, container in found:
        assert document["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"]
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert ":" in container["image"], "a tag, not whatever is newest"


def test_the_settings_are_those_of_a_fleet_and_end_in_time(tmp_path: Path) -> None:
    text = one("ConfigMap", "async-motion-settings")["data"]["variables.yaml"]
    file = tmp_path / "variables.yaml"
    file.write_text(text)
    workers = one("Deployment", "async-motion")
    pod = workers["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    env = {
        one["name"]: str(secret) if one["name"].endswith("_FILE") else "async-motion-5d9c7b6f4-x2v8p"
        for one in container["env"]
    }
    settings = load(file, env)
    assert settings.fleet.name == "async-motion-5d9c7b6f4-x2v8p"
    nats = one("StatefulSet", "nats")
    assert len(settings.fleet.servers) == nats["spec"]["replicas"] == 3
    grace = duration_of("30s")
    assert settings.shutdown_grace == grace
    # Cameras are handed over, then the spool is delivered, each within `shutdown_grace`.
    assert pod["terminationGracePeriodSeconds"] > 2 * settings.shutdown_grace
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/etc/async_motion", "/var/lib/async_motion", "/run/secrets/async_motion"} <= mounted


def test_the_servers_of_the_leases_are_called_by_workers_alone() -> None:
    policy = one("NetworkPolicy", "nats")["spec"]
    workers = one("Deployment", "async-motion")["spec"]["selector"]["matchLabels"]
    (clients,) = [
        rule["from"] for rule in policy["ingress"] if {port["port"] for port in rule["ports"]} == {4222}
    ]
    assert [client["podSelector"]["matchLabels"] for client in clients] == [workers]
    for name in ("async-motion", "nats"):
        assert one("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1
