"""The files for deployment are valid by the schema, and agree with the image and the command line."""

import itertools
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from erlmesh.certs.folder import AUTHORITY, CERTIFICATE, KEY, OPTFILE
from erlmesh.cli.settings import VARIABLES
from erlmesh.cli.shutdown import SHUTDOWN_TIMEOUT

ROOT = Path(__file__).parent.parent.parent
FILES = sorted(
    set((ROOT / "deploy" / "kubernetes").rglob("*.yaml")) - {ROOT / "deploy" / "kubernetes" / "tls" / "patch.yaml"}
)
OBJECTS = [
    pytest.param(each, id=f"{each['kind']}-{each['metadata']['name']}")
    for each in itertools.chain.from_iterable(yaml.safe_load_all(file.read_text()) for file in FILES)
]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COMPOSE_TLS = yaml.safe_load((ROOT / "compose.tls.yaml").read_text())
PATCH = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "tls" / "patch.yaml").read_text())
SWARM = yaml.safe_load((ROOT / "deploy" / "swarm.yaml").read_text())
SWARM_TLS = yaml.safe_load((ROOT / "deploy" / "swarm.tls.yaml").read_text())


def the(kind):
    (found,) = (each.values[0] for each in OBJECTS if each.values[0]["kind"] == kind)
    return found


@pytest.mark.parametrize("thing", OBJECTS)
def test_a_manifest_is_valid_by_the_schema(thing):
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_a_wrong_manifest_is_found():
    wrong = {**the("StatefulSet")}
    wrong["spec"] = {**wrong["spec"], "replica": 3}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_nodes_are_found_before_they_are_ready():
    assert the("Service")["spec"]["publishNotReadyAddresses"] is True
    assert the("Service")["spec"]["clusterIP"] == "None"


def test_the_pods_run_as_the_images_user_and_reach_its_ports():
    spec = the("StatefulSet")["spec"]["template"]["spec"]
    (container,) = spec["containers"]

    assert f"USER {spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" in DOCKERFILE
    ports = {port["containerPort"] for port in container["ports"]}
    assert ports == {4369, int(re.search(r"ERLMESH_PORT_MIN=(\d+)", DOCKERFILE)[1])}
    assert ports == {port["port"] for port in the("NetworkPolicy")["spec"]["ingress"][0]["ports"]}


@pytest.mark.parametrize("name", ["socrates", "plato", "aristotle"])
def test_the_nodes_of_compose_have_no_more_rights_than_the_pods(name):
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    user = re.search(r"USER (\d+):(\d+)", DOCKERFILE)
    home = re.search(r"HOME=(\S+)", DOCKERFILE)[1]
    assert service["tmpfs"] == [f"{home}:uid={user[1]},gid={user[2]},mode=0700"]


def test_the_key_of_the_secret_is_the_file_that_is_read():
    spec = the("StatefulSet")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    folder = next(each["mountPath"] for each in container["volumeMounts"] if each["name"] == "cookie")

    assert variables["ERLMESH_COOKIE_FILE"] == f"{folder}/{next(iter(the('Secret')['stringData']))}"


def test_every_node_refuses_the_cookie_in_the_repository():
    assert the("Secret")["stringData"] == {"cookie": ""}


def test_applying_the_folder_does_not_replace_the_real_cookie():
    applied = [
        each
        for file in (ROOT / "deploy" / "kubernetes").glob("*.yaml")
        for each in yaml.safe_load_all(file.read_text())
    ]

    assert "Secret" not in {each["kind"] for each in applied}
    assert "StatefulSet" in {each["kind"] for each in applied}


def test_the_grace_period_of_a_pod_is_longer_than_a_node_needs_to_stop():
    spec = the("StatefulSet")["spec"]["template"]["spec"]

    assert spec["terminationGracePeriodSeconds"] > SHUTDOWN_TIMEOUT
    assert int(COMPOSE["services"]["plato"]["stop_grace_period"].removesuffix("s")) > SHUTDOWN_TIMEOUT


def test_erlmesh_reads_every_variable_of_the_deploy_files():
    used = set(re.findall(r"ERLMESH_[A-Z_]+", DOCKERFILE))
    used |= {each["name"] for each in the("StatefulSet")["spec"]["template"]["spec"]["containers"][0]["env"]}
    used |= set(COMPOSE["services"]["plato"]["environment"]) | set(SWARM["services"]["node"]["environment"])

    assert used <= VARIABLES


def test_every_path_that_the_build_copies_is_in_a_tracked_folder():
    """BuildKit fails if the folder of a pattern does not exist, even if the pattern need not match anything."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    folders = {str(parent) for file in tracked for parent in Path(file).parents} | set(tracked)

    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if re.match(r"COPY (?!--from)", line)]
    for source in itertools.chain.from_iterable(copied):
        assert (str(Path(source).parent) if "*" in source else source) in folders, source


def test_the_image_and_the_pods_allow_no_remote_shell():
    (container,) = the("StatefulSet")["spec"]["template"]["spec"]["containers"]

    assert "ALLOW_REMSH" not in DOCKERFILE
    assert {"name": "ERLMESH_ALLOW_REMSH", "value": "off"} in container["env"]


def test_no_cookie_is_an_argument_or_a_variable_of_the_image():
    assert not re.search(r"^(ARG|ENV).*COOKIE", DOCKERFILE, re.MULTILINE)
    assert "ERLMESH_COOKIE=" not in DOCKERFILE


# TLS


def patched(value, patch):
    """A strategic merge patch, as ``kubectl patch`` applies it: lists of named things are merged by their names."""
    if isinstance(patch, dict):
        merged = {**(value or {})}
        for key, each in patch.items():
            if each is None:
                merged.pop(key, None)
            else:
                merged[key] = patched(merged.get(key), each)
        return merged
    if isinstance(patch, list):
        named = {each["name"]: each for each in value or ()}
        return list((named | {each["name"]: patched(named.get(each["name"]), each) for each in patch}).values())
    return patch


WITH_TLS = patched(the("StatefulSet"), PATCH)
TLS_POD = WITH_TLS["spec"]["template"]["spec"]


def variables_with_tls():
    (container,) = TLS_POD["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def test_the_patched_manifest_is_valid_by_the_schema():
    kubernetes_validate.validate(WITH_TLS, kubernetes_validate.latest_version(), strict=True)


def test_the_patch_replaces_only_what_tls_needs():
    (container,) = TLS_POD["containers"]

    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    assert names.index("ERLMESH_NAME") < names.index("ERLMESH_HOST")  # the host is made of it
    assert all("value" not in each or "valueFrom" not in each for each in container["env"])
    assert {each["name"] for each in container["volumeMounts"]} == {"cookie", "home", "tls"}


def test_the_pods_read_the_files_of_the_secret_as_erlmesh_certs_names_them():
    (mount,) = (each for each in TLS_POD["containers"][0]["volumeMounts"] if each["name"] == "tls")
    variables = variables_with_tls()

    assert "subPath" not in mount
    for kind, file in (("CERT", CERTIFICATE), ("KEY", KEY), ("CA", AUTHORITY)):
        assert variables[f"ERLMESH_TLS_{kind}"] == f"{mount['mountPath']}/{file}"
    assert {each for each in variables if each.startswith("ERLMESH_")} <= VARIABLES


def test_the_names_of_the_pods_are_those_that_discovery_and_the_certificate_have():
    service = WITH_TLS["spec"]["serviceName"]
    pods = [f"erlmesh-{number}@erlmesh-{number}.{service}" for number in range(WITH_TLS["spec"]["replicas"])]

    assert variables_with_tls()["ERLMESH_HOST"] == f"$(ERLMESH_NAME).{service}"
    assert variables_with_tls()["ERLMESH_DISCOVER"] == "static:" + ",".join(pods)
    text = (ROOT / "deploy" / "kubernetes" / "tls" / "patch.yaml").read_text()
    assert f"erlmesh certs --shared pods {' '.join(pods)}\n" in text


def test_the_nodes_of_compose_have_the_certificates_that_make_certs_writes():
    script = (ROOT / "tools" / "certs.sh").read_text()
    mounted_at = re.search(r"--mounted-at (\S+)", script)[1]

    for name, service in COMPOSE_TLS["services"].items():
        (volume,) = service["volumes"]
        node = f"{name}@{name}.agora"
        assert node in script
        assert volume == f"${{CERTS:-./docker/secret/certs}}/{node}:{mounted_at}:ro"
        assert f"{name}.agora" in service["networks"]["agora"]["aliases"]
        if name == "diotima":
            assert service["environment"]["TLS_OPTFILE"] == f"{mounted_at}/{OPTFILE}"
            continue
        assert set(service["environment"]) <= VARIABLES
        assert node in service["environment"]["ERLMESH_DISCOVER"]
        assert f"{service['environment']['ERLMESH_NAME']}@{service['environment']['ERLMESH_HOST']}" == node
        assert service["environment"]["ERLMESH_TLS_KEY"] == f"{mounted_at}/{KEY}"


def test_only_the_nodes_reach_the_ports_of_nodes_and_only_these():
    policy = the("NetworkPolicy")["spec"]
    labels = the("StatefulSet")["spec"]["template"]["metadata"]["labels"]

    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["from"] == [{"podSelector": policy["podSelector"]}]


def test_the_services_of_the_swarm_have_the_names_that_discovery_and_the_certificate_have():
    nodes = []
    for name, service in SWARM_TLS["services"].items():
        host = f"{name}.agora"
        assert service["environment"]["ERLMESH_HOST"] == service["hostname"] == host
        assert service["networks"]["agora"]["aliases"] == [host]
        assert service["deploy"]["replicas"] == 1
        assert service["deploy"]["endpoint_mode"] == "dnsrr"
        nodes.append(f"{service['environment']['ERLMESH_NAME']}@{host}")

    for service in SWARM_TLS["services"].values():
        assert set(service["environment"]) <= VARIABLES
        assert service["environment"]["ERLMESH_DISCOVER"] == "static:" + ",".join(nodes)
    text = (ROOT / "deploy" / "swarm.tls.yaml").read_text()
    assert f"erlmesh certs --shared nodes {' '.join(nodes)}\n" in text


def test_the_services_of_the_swarm_read_the_secrets_that_the_first_lines_create():
    text = (ROOT / "deploy" / "swarm.tls.yaml").read_text()
    created = {name: Path(file).name for name, file in re.findall(r"docker secret create (\S+) (\S+)", text)}
    user = re.search(r"USER (\d+):(\d+)", DOCKERFILE)

    assert created.keys() == SWARM_TLS["secrets"].keys()
    for service in SWARM_TLS["services"].values():
        assert {each["source"]: each["target"] for each in service["secrets"]} == created
        assert {(each["uid"], each["gid"], each["mode"]) for each in service["secrets"]} == {(user[1], user[2], 0o400)}
        for kind, file in (("CERT", CERTIFICATE), ("KEY", KEY), ("CA", AUTHORITY)):
            assert service["environment"][f"ERLMESH_TLS_{kind}"] == f"/run/secrets/{file}"
        assert service["environment"]["ERLMESH_COOKIE_FILE"] == f"/run/secrets/{created['erlmesh_cookie']}"


def test_tls_changes_nothing_else_of_the_nodes_of_a_swarm():
    plain = SWARM["services"]["node"]

    for service in SWARM_TLS["services"].values():
        for key in ("image", "command", "healthcheck"):
            assert service[key] == plain[key]
    assert SWARM_TLS["networks"] == SWARM["networks"]
