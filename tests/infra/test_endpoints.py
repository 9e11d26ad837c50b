import socket
from dataclasses import replace

import pytest

from infra.local.endpoints import Endpoints
from infra.local.errors import EndpointError, LocalStackError

FREE = Endpoints(prefect=0, scheduler=0, dashboard=0, s3=0, gallery=0)


def test_free_ports_are_found_and_all_differ():
    found = FREE.resolved()
    ports = {found.prefect, found.scheduler, found.dashboard, found.s3, found.gallery}
    assert len(ports) == 5
    assert 0 not in ports
    assert found.scheduler_url == f"tcp://127.0.0.1:{found.scheduler}"


def test_a_taken_port_is_named_with_its_option():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalStackError, match=rf"127\.0\.0\.1:{port} .*--s3-port"):
            Endpoints(prefect=0, scheduler=0, dashboard=0, s3=port, gallery=0).resolved()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_is_refused_with_its_own_option(host):
    with pytest.raises(LocalStackError, match=rf"{host}.*--host"):
        Endpoints(host=host).resolved()


@pytest.mark.parametrize("host", ["::1", "::", ""])
def test_what_not_every_part_can_listen_on_is_refused(host):
    with pytest.raises(EndpointError, match=f"--host '{host}'.*IPv4"):
        replace(FREE, host=host).resolved()


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_named_with_its_option(port):
    with pytest.raises(EndpointError, match=f"--gallery-port {port}"):
        replace(FREE, gallery=port).resolved()


def test_without_the_s3_server_its_port_may_be_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = Endpoints(prefect=0, scheduler=0, dashboard=0, s3=port, gallery=0).resolved(trial_storage=False)
    assert 0 not in (found.prefect, found.scheduler, found.dashboard, found.gallery)


def test_what_listens_everywhere_is_reached_by_the_machines_name_and_opened_from_there_and_here():
    everywhere = replace(FREE, host="0.0.0.0", prefect=4200)
    assert everywhere.gallery_url == f"http://{socket.getfqdn()}:0"
    names = {socket.getfqdn(), "127.0.0.1", "localhost"}
    assert set(everywhere.prefect_origins) == {f"http://{name}:4200" for name in names}
