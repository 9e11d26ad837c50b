"""What can be told of the compose files without a Docker engine."""

import re
from itertools import pairwise

import pytest
import yaml

from tasks.local_workers import WORKERS_A_GPU
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def plain(infra):
    return yaml.safe_load((infra / "compose" / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def encrypted(plain, infra):
    """Both files merged as Docker does it: mappings and lists of secrets joined, commands replaced."""
    overlay = yaml.safe_load((infra / "compose" / "compose.tls.yaml").read_text())
    services = {name: dict(service) for name, service in plain["services"].items()}
    for name, changed in overlay["services"].items():
        old = services[name]
        services[name] = {
            **old,
            **changed,
            "environment": {**old.get("environment", {}), **changed["environment"]},
            "secrets": [*old.get("secrets", []), *changed.get("secrets", [])],
        }
    return {**plain, "services": services, "secrets": {**plain["secrets"], **overlay["secrets"]}}


@pytest.fixture(params=["plain", "encrypted"])
def compose(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def services(compose):
    return compose["services"]


def test_every_service_waits_only_for_services_that_tell_when_they_are_ready(services):
    for name, service in services.items():
        for awaited, how in service.get("depends_on", {}).items():
            assert awaited in services, f"{name} depends on {awaited}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[awaited], f"{name} waits for {awaited}'s health"
            else:
                assert services[awaited]["restart"] == "on-failure", f"{name} waits for the end of {awaited}"


def test_a_service_that_always_starts_does_not_need_one_that_a_profile_switches_on(services):
    for name, service in services.items():
        for awaited, how in service.get("depends_on", {}).items():
            optional = set(services[awaited].get("profiles", [])) - set(service.get("profiles", []))
            assert not optional or how.get("required") is False, f"{name} depends on {awaited}"


def test_every_image_has_a_version(services):
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+|SSDNET_VERSION", service["image"]), f"{name}: {service['image']}"
        assert tag != "latest"


def test_every_service_has_limits_and_no_privileges(services):
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not {"privileged", "network_mode", "pid"} & set(service), name


def test_no_port_is_open_beyond_this_machine(services):
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port}"


def networks(service):
    return set(service.get("networks", ["default"]))


def test_only_workers_and_runs_reach_the_scheduler_which_asks_nobody_who_he_is(services):
    there = {name for name, service in services.items() if networks(service) & networks(services["dask-scheduler"])}
    runs = {"prefect-worker", "prefect-worker-backfills"}
    assert there == {"dask-scheduler", "dask-worker", "dask-worker-gpu", *runs}


def test_only_the_prefect_server_reaches_its_database(services):
    there = {name for name, service in services.items() if networks(service) & networks(services["postgres"])}
    assert there == {"postgres", "prefect-server"}


def test_every_service_shares_a_network_with_those_that_it_names(services, infra):
    example = (infra / "compose" / ".env.example").read_text()
    endpoint = re.search(r"^AWS_ENDPOINT_URL=(.*)$", example, re.MULTILINE)[1]
    for name, service in services.items():
        environment = {**service.get("environment", {})}
        if name == "deployments":
            del environment["SSDNET_SCHEDULER"]  # Written into the runs' parameters: it does not ask there itself.
        told = [str(one).replace("${AWS_ENDPOINT_URL-}", endpoint) for one in environment.values()]
        named = {host for host in services if any(one == host or f"//{host}:" in one for one in told)}
        assert named or name in {"postgres", "dask-scheduler", "s3"}, f"{name} names nobody"
        for host in named:
            assert networks(service) & networks(services[host]), f"{name} does not reach {host}"


def test_networks_are_declared_and_lead_out_so_that_ports_are_published_and_a_store_elsewhere_is_reached(compose):
    used = set().union(*(networks(service) for service in compose["services"].values()))
    assert used == set(compose["networks"])
    assert not any((options or {}).get("internal") for options in compose["networks"].values())


def test_every_secret_is_declared_and_lies_in_a_file(compose):
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", [])}
    assert used == set(compose["secrets"])
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())


def test_every_secret_that_a_service_reads_is_given_to_it(services):
    for name, service in services.items():
        given = set(service.get("secrets", []))
        assert set(re.findall(r"/run/secrets/(\w+)", str(service))) == given, name


def test_no_environment_holds_a_secret(services):
    for name, service in services.items():
        for variable in service.get("environment", {}):
            assert not re.search(r"(PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY\w*)$", variable), f"{name}: {variable}"


def test_every_volume_is_declared(compose):
    mounted = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])
    }
    assert mounted == set(compose["volumes"])


def test_the_example_explains_every_variable_and_no_other(infra):
    used = set()
    for name in ("compose.yaml", "compose.tls.yaml"):
        # $$ is a dollar sign that compose leaves to the container's shell.
        text = (infra / "compose" / name).read_text().replace("$$", "")
        used |= set(re.findall(r"\$\{(\w+)", text))
        assert not re.findall(r"\$(?!\{)\w+", text)
    example = (infra / "compose" / ".env.example").read_text()
    documented = set(re.findall(r"^(\w+)=", example, re.MULTILINE))
    assert documented - {"COMPOSE_PROFILES"} == used


def test_only_gpu_workers_wait_for_a_profile_and_share_a_gpu(services):
    gpu = services["dask-worker-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert "--resources=GPU=1" in gpu["command"]
    [device] = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert len(device["device_ids"]) == 1
    assert device["capabilities"] == ["gpu"]
    # The one device that a container sees is its first, whatever its number on the host.
    assert gpu["environment"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert gpu["deploy"]["replicas"] == f"${{SSDNET_GPU_WORKERS:-{WORKERS_A_GPU}}}"
    assert "profiles" not in services["dask-worker"]


@pytest.mark.parametrize("name", ["dask-worker", "dask-worker-gpu"])
def test_workers_are_set_up_as_those_that_the_code_starts(services, name, worker_environment):
    worker = services[name]
    assert worker["environment"].items() >= worker_environment.items()
    assert {"--nthreads=1", "--preload=tasks.worker_preload"} <= set(worker["command"])


def test_the_scheduler_is_set_up_as_the_one_that_the_code_starts(services, scheduler_environment):
    assert services["dask-scheduler"]["environment"].items() >= scheduler_environment.items()


def test_the_pages_of_the_runs_link_to_the_gallery_as_a_browser_on_this_machine_reaches_it(services):
    [published] = services["gallery"]["ports"]
    address, _, inside = published.rpartition(":")
    command, deployed = services["gallery"]["command"], services["deployments"]["environment"]
    assert command[command.index("--port") + 1] == inside
    assert command[command.index("infra.gallery_server") + 1] == deployed["SSDNET_RESULTS"]
    for name in ("prefect-worker", "prefect-worker-backfills"):
        assert services[name]["environment"]["SSDNET_GALLERY_URL"] == f"http://{address}"
        assert services[name]["environment"]["SSDNET_RESULTS"] == deployed["SSDNET_RESULTS"]


def test_the_gallery_answers_only_to_the_names_by_which_this_machine_reaches_it(services):
    command = services["gallery"]["command"]
    allowed = {value for option, value in pairwise(command) if option == "--allow-host"}
    assert allowed == {"127.0.0.1", "localhost"}
    # By the first of them the page is linked to, and the container asks itself whether it is well.
    assert services["gallery"]["ports"][0].startswith("127.0.0.1:")
    assert "//127.0.0.1:" in str(services["gallery"]["healthcheck"]["test"])


def test_a_worker_may_use_no_more_memory_than_its_container_has(services):
    for name in ("dask-worker", "dask-worker-gpu"):
        [limit] = [option for option in services[name]["command"] if option.startswith("--memory-limit=")]
        assert limit.removeprefix("--memory-limit=") == services[name]["deploy"]["resources"]["limits"]["memory"]


def test_encrypted_dask_is_addressed_as_such_everywhere(encrypted):
    services = encrypted["services"]
    for role, names in {
        "SCHEDULER": ["dask-scheduler"],
        "WORKER": ["dask-worker", "dask-worker-gpu"],
        "CLIENT": ["prefect-worker", "prefect-worker-backfills"],
    }.items():
        for name in names:
            environment = services[name]["environment"]
            assert environment["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
            assert f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT" in environment
            assert f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY" in environment
    assert "tcp://" not in str(services)


def test_secrets_and_settings_of_a_machine_are_not_committed(infra):
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for name in (".env", "secrets/", "certificates/"):
        assert f"infra/compose/{name}" in ignored
