"""The Kubernetes manifests, against the schemas of Kubernetes' API and against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bigupload.service.http.serving import DRAIN_WITHIN, LAST_RESPONSES_WITHIN
from tests.service.deploy.support import DEPLOY, names_a_host, options_of
from tests.tools.cases import each_case

pytestmark = pytest.mark.slow  # guards deploy/

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
DOCUMENTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in DOCUMENTS if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pods() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The labels and the specification of each kind of pod."""
    for each in DOCUMENTS:
        if each["kind"] == "Deployment":
            yield each["spec"]["template"]["metadata"]["labels"], each["spec"]["template"]["spec"]


@each_case("document", DOCUMENTS)
def test_the_schema(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, "1.35", strict=True)


def test_a_wrong_field_is_found() -> None:
    wrong = one("Service", "bigupload") | {"spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.35", strict=True)


def test_every_manifest_is_applied() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


def test_pods_are_hardened_and_hold_no_secret() -> None:
    for _, spec in pods():
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        own = container["securityContext"]
        assert own["readOnlyRootFilesystem"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own["allowPrivilegeEscalation"]
        assert not names_a_host(container["image"])
        for variable in container.get("env", ()):
            assert ("KEY" in variable["name"]) == ("valueFrom" in variable)
    assert not any(each["kind"] == "Secret" for each in DOCUMENTS)


def test_no_variable_of_a_service_is_taken_for_an_option() -> None:
    """A pod beside a Service named bigupload gets BIGUPLOAD_PORT=tcp://…: `serve` would not start again."""
    assert all(
        spec["enableServiceLinks"] is False for labels, spec in pods() if "bigupload-valkey" not in labels.values()
    )


def test_selectors_select_pods() -> None:
    labels = [found for found, _ in pods()]
    selectors = [one("Service", name)["spec"]["selector"] for name in ("bigupload", "bigupload-valkey")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in DOCUMENTS if each["kind"] == "NetworkPolicy"]
    selectors.append(one("PodDisruptionBudget", "bigupload")["spec"]["selector"]["matchLabels"])
    assert all(selector in labels for selector in selectors)


def test_the_commands_are_the_command_line_s() -> None:
    deployment, sweep = one("Deployment", "bigupload")["spec"], one("Deployment", "bigupload-sweep")["spec"]
    (container,) = deployment["template"]["spec"]["containers"]
    options = options_of(container["args"])
    assert options["shared"] == "redis://bigupload-valkey:6379/0"
    assert options["sweep_every"] == 0
    assert options["port"] == container["ports"][0]["containerPort"]
    stopping = float(str(options["stop_delay"])) + DRAIN_WITHIN + 4 * LAST_RESPONSES_WITHIN
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > stopping
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(str(options["stop_delay"]))
    (container,) = sweep["template"]["spec"]["containers"]
    sweeping = options_of(container["args"])
    assert (sweeping["bucket"], sweep["replicas"]) == (options["bucket"], 1)
    assert float(str(sweeping["sweep_every"])) > 0
