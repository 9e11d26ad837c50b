"""What can be told of the manifests without a cluster."""

import json
import re

import pytest
import yaml

# Made by the cluster's own store, or by hand as docs/OPERATIONS.md says.
SECRETS = {"ssdnet-s3", "prefect-auth", "prefect-database", "dask-tls-scheduler", "dask-tls-worker", "dask-tls-client"}


@pytest.fixture(scope="module")
def manifests(infra):
    """All resources that the kustomizations name."""
    folder = infra / "kubernetes"
    found = []
    for kustomization in folder.rglob("kustomization.yaml"):
        for name in yaml.safe_load(kustomization.read_text()).get("resources", []):
            found += list(yaml.safe_load_all((kustomization.parent / name).read_text()))
    return found


@pytest.fixture(scope="module")
def flow_job(infra):
    template = json.loads((infra / "kubernetes" / "base-job-template.json").read_text())
    return template["job_configuration"]["job_manifest"]


@pytest.fixture(scope="module")
def pods(manifests, flow_job):
    """Labels and specification of every pod, by name; the labels of Dask's are those that its operator gives."""
    found = {"flow": (flow_job["spec"]["template"]["metadata"]["labels"], flow_job["spec"]["template"]["spec"])}
    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        if manifest["kind"] in ("DaskCluster", "DaskWorkerGroup"):
            for component in {"scheduler", "worker"} & set(spec):
                labels = {"dask.org/cluster-name": spec.get("cluster", name), "dask.org/component": component}
                found[f"{name}-{component}"] = (labels, spec[component]["spec"])
        elif manifest["kind"] == "Job":
            found[name] = (spec["template"]["metadata"]["labels"], spec["template"]["spec"])
    return found


def containers(pods):
    return [(name, container) for name, (_, spec) in pods.items() for container in spec["containers"]]


def matches(selector, labels):
    return selector["matchLabels"].items() <= labels.items()


def test_every_file_is_part_of_a_kustomization(infra):
    folder = infra / "kubernetes"
    named = set()
    for path in folder.rglob("kustomization.yaml"):
        tree = yaml.safe_load(path.read_text())
        files = [
            *tree.get("resources", []),
            *(patch["path"] for patch in tree.get("patches", []) if "path" in patch),
            *(name for generator in tree.get("configMapGenerator", []) for name in generator["files"]),
        ]
        named |= {path, *(path.parent / name for name in files)}
    values = set(folder.glob("*.values.yaml"))
    assert {path for path in folder.rglob("*") if path.is_file()} == named | values


def test_every_manifest_says_what_it_is_and_no_two_are_the_same(manifests):
    names = [(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert all(all(name) for name in names)
    assert len(names) == len(set(names))


def test_every_configuration_and_secret_that_a_pod_names_exists(manifests, pods, infra):
    generated = yaml.safe_load((infra / "kubernetes" / "kustomization.yaml").read_text())["configMapGenerator"]
    maps = {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "ConfigMap"}
    maps |= {generator["name"] for generator in generated}
    text = json.dumps([spec for _, spec in pods.values()])
    assert set(re.findall(r'"configMap(?:Ref)?": {"name": "([\w-]+)"', text)) <= maps
    named = set(re.findall(r'"secret(?:Ref|KeyRef)": {"name": "([\w-]+)"', text))
    assert named | set(re.findall(r'"secretName": "([\w-]+)"', text)) <= SECRETS


def test_no_manifest_holds_a_secret(manifests):
    assert "Secret" not in {manifest["kind"] for manifest in manifests}


def test_no_job_of_a_flow_run_holds_the_servers_password(infra, pods):
    worker = yaml.safe_load((infra / "kubernetes" / "prefect-worker.values.yaml").read_text())["worker"]
    given = {variable["name"]: variable["value"] for variable in worker["extraEnvVars"]}
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET"
    secret = {"name": given[f"{prefix}_NAME"], "key": given[f"{prefix}_KEY"]}
    assert secret["name"] == worker["selfHostedServerApiConfig"]["basicAuth"]["existingSecret"]
    [container] = pods["ssdnet-deployments"][1]["containers"]
    [password] = [variable for variable in container["env"] if variable["name"] == "PREFECT_API_AUTH_STRING"]
    assert password["valueFrom"]["secretKeyRef"] == secret


def test_the_external_secrets_are_those_that_are_used(manifests):
    made = {manifest["spec"]["target"]["name"] for manifest in manifests if manifest["kind"] == "ExternalSecret"}
    assert made == {secret for secret in SECRETS if not secret.startswith("dask-tls")}


def test_every_mount_has_its_volume(pods):
    for name, (_, spec) in pods.items():
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, name


def test_every_container_is_pinned_limited_and_without_privileges(pods):
    for name, container in containers(pods):
        if name != "flow":  # the work pool's variable, whose default test_image.py looks at
            assert re.search(r":\d+\.\d+\.\d+-", container["image"]), name
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][kind]), name
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_every_pod_runs_as_somebody_without_a_token(pods):
    for name, (_, spec) in pods.items():
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_autoscalers_leave_a_flow_where_it_is_and_only_prefect_starts_it_anew(flow_job):
    assert flow_job["spec"]["backoffLimit"] == 0
    assert flow_job["spec"]["template"]["metadata"]["annotations"] == {
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }


def test_a_gpu_is_asked_for_whole_and_declared_to_dask(pods):
    declared = set()
    for name, container in containers(pods):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        gpus = limits.get("nvidia.com/gpu", 0) if isinstance(limits, dict) else 0
        assert requests.get("nvidia.com/gpu", 0) == gpus
        if gpus:
            declared.add(name)
            assert gpus == 1
            assert "--resources=GPU=1" in container["args"]
            assert {"name": "CUDA_VISIBLE_DEVICES", "value": "0"} in container["env"]
    assert declared == {"ssdnet-gpu-worker"}


def test_selectors_select(manifests, pods):
    labels = {name: given for name, (given, _) in pods.items()}
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "PodDisruptionBudget":
            assert [name for name in labels if matches(spec["selector"], labels[name])] == ["ssdnet-scheduler"]
        if manifest["kind"] == "NetworkPolicy":
            assert any(matches(spec["podSelector"], given) for given in labels.values())
            peers = [peer for rule in spec["ingress"] for peer in rule["from"] if "podSelector" in peer]
            assert peers
            for peer in peers:
                assert any(matches(peer["podSelector"], given) for given in labels.values()), peer
        if manifest["kind"] == "DaskCluster":
            service = spec["scheduler"]["service"]
            assert service["selector"].items() <= labels["ssdnet-scheduler"].items()


def test_the_scheduler_is_reached_by_workers_and_flows_only(manifests, pods):
    [policy] = [
        m["spec"] for m in manifests if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "dask-scheduler"
    ]
    allowed = {
        name
        for rule in policy["ingress"]
        for peer in rule["from"]
        for name, (labels, _) in pods.items()
        if "podSelector" in peer and matches(peer["podSelector"], labels)
    }
    assert allowed == {"ssdnet-worker", "ssdnet-gpu-worker", "flow"}


def test_ports_that_policies_and_services_name_are_listened_on(manifests, pods):
    listening = {
        name: {port["containerPort"] for container in spec["containers"] for port in container.get("ports", [])}
        for name, (_, spec) in pods.items()
    }
    for manifest in manifests:
        if manifest["kind"] == "NetworkPolicy":
            selected = [name for name, (labels, _) in pods.items() if matches(manifest["spec"]["podSelector"], labels)]
            ports = {port["port"] for rule in manifest["spec"]["ingress"] for port in rule["ports"]}
            for name in selected:
                assert ports <= listening[name]
    for name in ("ssdnet-worker", "ssdnet-gpu-worker"):
        options = " ".join(pods[name][1]["containers"][0]["args"])
        told = {int(port) for port in re.findall(r"(?:-port=|address=:)(\d+)", options)}
        assert told == listening[name]


def data_of(manifests, name):
    [found] = [m["data"] for m in manifests if m["kind"] == "ConfigMap" and m["metadata"]["name"] == name]
    return found


def configurations(container):
    return {source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source}


def test_workers_are_set_up_as_those_that_the_code_starts(manifests, pods, worker_environment):
    assert data_of(manifests, "ssdnet-dask-worker") == worker_environment
    for name in ("ssdnet-worker", "ssdnet-gpu-worker"):
        [container] = pods[name][1]["containers"]
        assert "ssdnet-dask-worker" in configurations(container)
        assert {"--nthreads=1", "--preload=tasks.worker_preload"} <= set(container["args"])
        # Without it they are all named alike, and the operator cannot retire one.
        assert "--name=$(DASK_WORKER_NAME)" in container["args"]
        assert f"--memory-limit={container['resources']['limits']['memory']}B" in container["args"]


def test_the_scheduler_is_set_up_as_the_one_that_the_code_starts(manifests, pods, scheduler_environment):
    assert data_of(manifests, "ssdnet-dask-scheduler") == scheduler_environment
    [container] = pods["ssdnet-scheduler"][1]["containers"]
    assert "ssdnet-dask-scheduler" in configurations(container)


def test_the_patches_for_tls_fit_what_they_patch(infra, manifests, pods):
    folder = infra / "kubernetes" / "tls"
    data = data_of(manifests, "ssdnet-dask-tls")
    for role in ("scheduler", "worker"):
        name = {"scheduler": "scheduler.yaml", "worker": "workers.yaml"}[role]
        patches = yaml.safe_load((folder / name).read_text())
        [argument] = [patch["value"] for patch in patches if patch["path"].endswith("/args/2")]
        assert "tls://" in argument
        assert all(patch["path"].startswith(f"/spec/{role}/spec/") for patch in patches)
        [mount] = [patch["value"] for patch in patches if patch["path"].endswith("/volumeMounts/-")]
        assert data[f"DASK_DISTRIBUTED__COMM__TLS__{role.upper()}__CERT"] == f"{mount['mountPath']}/tls.crt"
    for name in ("ssdnet-scheduler", "ssdnet-worker", "ssdnet-gpu-worker"):
        assert pods[name][1]["containers"][0]["args"][:2] == ["dask", name.rsplit("-", 1)[1]]
    [flow] = pods["flow"][1]["containers"]
    [certificate] = [mount for mount in flow["volumeMounts"] if mount["name"] == "tls"]
    assert data["DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT"] == f"{certificate['mountPath']}/tls.crt"


def test_every_placeholder_of_the_job_template_has_its_variable(infra):
    template = json.loads((infra / "kubernetes" / "base-job-template.json").read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])


def test_every_pool_of_the_deployments_is_made_and_polled(infra):
    deployments = yaml.safe_load((infra.parent / "prefect.yaml").read_text())["deployments"]
    compose = (infra / "compose" / "compose.yaml").read_text()
    for pool in {deployment["work_pool"]["name"] for deployment in deployments}:
        made = (infra / "kubernetes" / "deployments.yaml").read_text()
        assert re.search(rf"for pool in .*\b{pool}\b.*; do", made)
        assert re.search(rf"for pool in .*\b{pool}\b.*; do", compose)
        assert f"worker start --pool {pool} " in compose


def test_automations_that_are_not_there_are_registered_with_the_deployments_and_no_other_is_changed(infra):
    for path in ("kubernetes/deployments.yaml", "compose/compose.yaml"):
        commands = [line.strip() for line in (infra / path).read_text().splitlines()]
        deploy = commands.index("prefect --no-prompt deploy --all")
        assert commands[deploy + 1] == "python -m infra.automations --keep"


def test_every_variable_that_the_deployments_name_is_set_where_they_are_made(infra, pods, manifests):
    named = set(re.findall(r"{{ \$(\w+) }}", (infra.parent / "prefect.yaml").read_text())) - {"SSDNET_HOME"}
    assert named
    compose = yaml.safe_load((infra / "compose" / "compose.yaml").read_text())["services"]["deployments"]
    assert named <= set(compose["environment"])
    [container] = pods["ssdnet-deployments"][1]["containers"]
    given = {variable["name"] for variable in container["env"]}
    assert named <= given | set(data_of(manifests, "ssdnet-flow"))
