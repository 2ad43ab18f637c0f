"""The files under serving/deploy agree with each other and with the server; linters have their say where they are."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

import tfrs_mmse
from serving.server.lifecycle import GRACE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "serving/deploy"
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(set(KUBERNETES.glob("*.yaml")) - {KUBERNETES / "kustomization.yaml"})
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def _objects() -> dict[tuple[str, str], Any]:
    texts = [path.read_text() for path in MANIFESTS]
    loaded = [o for text in texts for o in yaml.safe_load_all(text)]
    return {(o["kind"], o["metadata"]["name"]): o for o in loaded}


OBJECTS = _objects()
DEPLOYMENT = OBJECTS["Deployment", "search"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
[CONTAINER] = POD["containers"]
PORTS = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
LABELS = DEPLOYMENT["template"]["metadata"]["labels"]


def flags(arguments: list[str]) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in arguments)


def instruction(name: str) -> str:
    """What the only such line of the Dockerfile says, continued lines joined."""
    [found] = re.findall(
        rf"^{name} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE
    )
    return found


@pytest.fixture(scope="module")
def known_flags() -> Callable[[str], set[str]]:
    def known(module: str) -> set[str]:
        command = [sys.executable, "-m", module, "--help"]
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT
        )
        return set(re.findall(r"--[a-z][a-z_-]*", said.stdout))

    return known


@pytest.mark.parametrize(
    "arguments",
    [CONTAINER["args"], COMPOSE["services"]["scann"]["command"]],
    ids=["kubernetes", "compose"],
)
def test_the_server_has_every_flag_that_it_is_started_with(
    arguments: list[str], known_flags: Any
) -> None:
    assert flags(arguments).keys() <= known_flags("serving.server")


def test_the_manual_names_only_flags_that_there_are(known_flags: Any) -> None:
    text = (ROOT / "docs/deployment.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"python -m (serving\.\w+)(.*)", text)
    assert commands
    for module, arguments in commands:
        used = set(re.findall(r"--[a-z][a-z_-]*", arguments))
        assert used <= known_flags(module), module


def test_the_same_model_is_served_everywhere_on_the_same_ports() -> None:
    started = flags(CONTAINER["args"])
    assert started == flags(COMPOSE["services"]["scann"]["command"])
    assert PORTS["grpc"] == int(started["--port"])
    assert PORTS["http"] == int(started["--rest_api_port"])
    assert instruction("EXPOSE").split() == [str(port) for port in PORTS.values()]
    base_path = Path(started["--model_base_path"])
    [models] = [m for m in CONTAINER["volumeMounts"] if m["name"] == "models"]
    assert (Path(models["mountPath"]), models["readOnly"]) == (base_path.parent, True)
    exact = COMPOSE["services"]["exact"]["environment"]
    # TensorFlow Serving's image joins the two.
    assert Path(exact["MODEL_BASE_PATH"], exact["MODEL_NAME"]) == base_path
    assert exact["MODEL_NAME"] == started["--model_name"]


def test_probes_ask_the_health_service_of_the_server_and_of_the_model() -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["grpc"]["port"] == PORTS["grpc"]
    asked = CONTAINER["readinessProbe"]["grpc"]["service"]
    assert asked == flags(CONTAINER["args"])["--model_name"]
    # A server without its model must not be killed for it.
    assert CONTAINER["livenessProbe"]["grpc"].get("service", "") == ""


def test_there_is_time_to_drain() -> None:
    [sleep, seconds] = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep == "sleep"
    assert POD["terminationGracePeriodSeconds"] > float(seconds) + GRACE_SECONDS
    grace = COMPOSE["services"]["scann"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > GRACE_SECONDS


def test_nothing_runs_as_root_or_writes_to_its_image() -> None:
    user = instruction("USER").split(":")[0]
    assert int(user) > 0
    assert POD["securityContext"]["runAsUser"] == int(user)
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(volume.endswith(":ro") for volume in service["volumes"])


def test_one_host_opens_its_ports_to_itself_only() -> None:
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["restart"] == "unless-stopped"
        assert service["mem_limit"]


def test_images_are_pinned_and_of_this_version() -> None:
    ours = f"tfrs-mmse-server:{tfrs_mmse.__version__}"
    assert CONTAINER["image"] == COMPOSE["services"]["scann"]["image"] == ours
    assert ours in DOCKERFILE
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    [image] = kustomization["images"]
    assert f"{image['name']}:{image['newTag']}" == ours
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases[0])
    exact = COMPOSE["services"]["exact"]["image"]
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", exact)


def test_the_image_holds_pinned_packages_and_no_model() -> None:
    assert "--require-hashes --requirement requirements.lock" in DOCKERFILE
    copied = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert copied == ["requirements.lock", "tfrs_mmse", "serving"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert "*" in lines
    assert let_through == copied


def test_signals_reach_the_server_itself() -> None:
    assert json.loads(instruction("ENTRYPOINT")) == ["python", "-m", "serving.server"]


def test_all_manifests_are_applied_together() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]


def test_what_belongs_together_finds_each_other() -> None:
    assert DEPLOYMENT["selector"]["matchLabels"] == LABELS
    for kind in ("PodDisruptionBudget", "NetworkPolicy"):
        spec = OBJECTS[kind, "search"]["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        assert selector["matchLabels"] == LABELS
    services = [o["spec"] for (kind, _), o in OBJECTS.items() if kind == "Service"]
    assert len(services) == 2
    for service in services:
        [port] = service["ports"]
        assert service["selector"] == LABELS
        assert PORTS[port["targetPort"]] == port["port"]
    network = OBJECTS["NetworkPolicy", "search"]["spec"]
    assert {p["port"] for rule in network["ingress"] for p in rule["ports"]} == {*PORTS}
    scaled = OBJECTS["HorizontalPodAutoscaler", "search"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == "search"
    assert scaled["minReplicas"] > 1
    assert "replicas" not in DEPLOYMENT
    claims = [v["persistentVolumeClaim"]["claimName"] for v in POD["volumes"][:1]]
    assert ("PersistentVolumeClaim", *claims) in OBJECTS
    scraped = DEPLOYMENT["template"]["metadata"]["annotations"]
    assert int(scraped["prometheus.io/port"]) == PORTS["http"]


@pytest.fixture
def health() -> Iterator[Callable[[bytes], int]]:
    """Starts servers whose health service gives one answer; gives their port."""
    servers = []

    def start(answer: bytes) -> int:
        handler = grpc.unary_unary_rpc_method_handler(lambda _, __: answer)
        service = grpc.method_handlers_generic_handler(
            "grpc.health.v1.Health", {"Check": handler}
        )
        running = grpc.server(futures.ThreadPoolExecutor(1))
        running.add_generic_rpc_handlers([service])
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        servers.append(running)
        return port

    yield start
    for running in servers:
        running.stop(None).wait()


@pytest.mark.parametrize(
    ("answer", "status"),
    # `status` 1 is SERVING, 2 NOT_SERVING; a message without it UNKNOWN.
    [(b"\x08\x01", 0), (b"\x08\x02", 1), (b"", 1)],
)
def test_the_image_knows_whether_it_serves(
    health: Any, answer: bytes, status: int
) -> None:
    _, _, check = instruction("HEALTHCHECK").partition("CMD ")
    [python, *arguments] = json.loads(check)
    assert python == "python"
    assert "127.0.0.1:8500" in arguments[-1]
    arguments[-1] = arguments[-1].replace("8500", str(health(answer)))
    done = subprocess.run([sys.executable, *arguments], stderr=subprocess.DEVNULL)
    assert done.returncode == status


_SCORED = ["container-image-pull-policy", "deployment-has-host-podantiaffinity"]
_LINTERS: dict[str, list[str | Path]] = {
    "hadolint": [DEPLOY / "Dockerfile"],
    "yamllint": ["--strict", "--config-file", ROOT / ".yamllint.yaml", DEPLOY],
    "check-jsonschema": [
        "--builtin-schema",
        "vendor.compose-spec",
        DEPLOY / "compose.yaml",
    ],
    "kubernetes-validate": ["--strict", *MANIFESTS],
    "kustomize": ["build", KUBERNETES],
    # The tag is pinned, pods are spread otherwise, and processors have no limit on purpose.
    "kube-score": [
        "score",
        "--ignore-container-cpu-limit",
        *(f"--ignore-test={name}" for name in _SCORED),
        *MANIFESTS,
    ],
}


@pytest.mark.parametrize("linter", _LINTERS)
def test_linters_find_nothing(linter: str) -> None:
    if shutil.which(linter) is None:
        pytest.skip(f"{linter} is not installed")
    done = subprocess.run(
        [linter, *_LINTERS[linter]], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
