"""Which workers fit: real schedulers and worker processes, with GPUs that are declared only."""

import logging
import logging.handlers
import time
from dataclasses import replace
from functools import partial
from threading import Thread

import dask
import pytest
from distributed import Client, Status, Worker, wait

import tasks.cluster
import tasks.fit_workers
from ssdnet_core.errors import InvalidConfigError
from tasks.cluster import (
    GPU_GROUP,
    Cluster,
    ClusterError,
    able_workers,
    dask_client,
    fit_group,
    fit_resources,
)
from tasks.dispatch import Dispatch, future_size, submit_chunk
from tasks.fit_workers import FitWorkers
from tests.conftest import wait_for
from tests.dask_processes import dask_processes
from tests.tasks.prepared import prepared

OWNS_A_GPU = ("--resources", "GPU=1")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Two workers that fit on the processor, and one that says it owns a GPU."""
    with dask_processes(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.add_worker("core-1")
        cluster.add_worker("core-2")
        cluster.add_worker("gpu", *OWNS_A_GPU)
        yield cluster


@pytest.mark.slow
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_fits_go_only_to_workers_that_own_a_gpu(mixed, tmp_path, device):
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(6)))
    with Client(mixed.address) as client:
        submitted = submit_chunk(Dispatch(FitWorkers(client, fit_resources(client, device)), inspection), entries)
        wait(list(submitted.futures))
        holders = {address for held in client.who_has(list(submitted.futures)).values() for address in held}
        records = submitted.collected().records
        assert holders == {mixed.names(client)["gpu"]}
    assert [record.status for record in records] == ["inspected"] * 6


@pytest.mark.slow
def test_fits_on_the_processor_go_anywhere(mixed):
    with Client(mixed.address) as client:
        assert fit_resources(client, "cpu") == {}


@pytest.mark.slow
def test_groups_are_dealt_evenly_among_the_workers_that_own_a_gpu(tmp_path):
    inspection, entries = prepared(tmp_path, *(f"{number:02d}.png" for number in range(13)))
    with dask_processes(tmp_path / "dask") as cluster:
        cluster.add_worker("core")
        cluster.add_worker("gpu-1", *OWNS_A_GPU)
        cluster.add_worker("gpu-2", *OWNS_A_GPU)
        with Client(cluster.address) as client:
            resources = fit_resources(client, "cuda")
            assert fit_group(resources) == GPU_GROUP
            inspection = replace(inspection, group=fit_group(resources, 4))
            task = future_size(len(entries), group=inspection.group, workers=len(able_workers(client, resources)))
            submitted = submit_chunk(Dispatch(FitWorkers(client, resources), inspection), entries, images_a_future=task)
            wait(list(submitted.futures))
            names = {address: name for name, address in cluster.names(client).items()}
            held = client.who_has(list(submitted.futures))
            images = {
                names[address]: len(submitted.futures[future])
                for future in submitted.futures
                for address in held[future.key]
            }
            records = submitted.collected().records
    assert sorted(images.items()) in ([("gpu-1", 6), ("gpu-2", 7)], [("gpu-1", 7), ("gpu-2", 6)])
    assert [record.status for record in records] == ["inspected"] * 13


def pause(dask_worker: Worker) -> None:
    dask_worker.status = Status.paused


@pytest.mark.slow
def test_workers_that_are_paused_are_not_able(tmp_path):
    with dask_processes(tmp_path) as cluster:
        cluster.add_worker("paused", "--memory-limit", "0")  # Else Dask lets it go on.
        cluster.add_worker("running")
        with Client(cluster.address) as client:
            names = cluster.names(client)
            assert able_workers(client, {}) == set(names.values())
            client.run(pause, workers=[names["paused"]])
            wait_for(lambda: able_workers(client, {}) == {names["running"]}, what="the paused worker to be left out")


def test_workers_of_this_machine_need_no_certificates_though_those_of_a_cluster_do():
    with dask.config.set({"distributed.comm.require-encryption": True}), dask_client(workers=1) as client:
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    "setting", [{"distributed.comm.timeouts.connect": "soon"}, {"distributed.nanny.preload": ["soon"]}], ids=str
)
def test_a_setting_that_dask_cannot_use_is_told_with_where_to_correct_it(setting):
    with (
        dask.config.set(setting),
        pytest.raises(ClusterError, match=r"did not start: .*soon.*\(DASK_\.\.\.\)"),
        dask_client(workers=1),
    ):
        pytest.fail("workers started")


def test_a_gpu_fits_many_images_together_and_a_processor_one_unless_asked():
    assert fit_group({}) == 1
    assert fit_group({"GPU": 1.0}) == GPU_GROUP > 1
    assert fit_group({}, 5) == fit_group({"GPU": 1.0}, 5) == 5


def test_a_gpu_that_no_worker_has_as_its_first_is_refused():
    with pytest.raises(InvalidConfigError, match=r"'cuda:1'.*CUDA_VISIBLE_DEVICES"):
        Cluster("tcp://127.0.0.1:1", device="cuda:1")
    Cluster("tcp://127.0.0.1:1", device="cuda:0")


@pytest.mark.slow
def test_without_gpu_workers_auto_takes_all_and_cuda_says_what_to_start(tmp_path):
    with dask_processes(tmp_path) as cluster:
        cluster.add_worker("core")
        with Client(cluster.address) as client:
            assert fit_resources(client, "auto") == {}
            with pytest.raises(ClusterError, match=r"none of the 1 Dask workers.*--resources GPU=1.*device=auto"):
                fit_resources(client, "cuda")


@pytest.mark.slow
def test_when_the_last_gpu_worker_is_gone_a_run_ends_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.fit_workers, "WORKERLESS_SECONDS", 1.0)
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.2)
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(40)))
    with dask_processes(tmp_path / "dask") as cluster:
        cluster.add_worker("core")
        owner = cluster.add_worker("gpu", *OWNS_A_GPU)
        with Client(cluster.address) as client:
            workers = FitWorkers(client, fit_resources(client, "auto"))
            cluster.hang(owner)
            submitted = submit_chunk(Dispatch(workers, inspection), entries)
            cluster.kill(owner)
            with pytest.raises(ClusterError, match=r"there has been no running worker with a GPU.*run again"):
                submitted.collected()


@pytest.mark.slow
def test_workers_of_this_machine_that_are_gone_for_good_are_not_asked_to_be_started(monkeypatch):
    monkeypatch.setattr(tasks.fit_workers, "WORKERLESS_SECONDS", 0.2)
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.1)
    with dask_client(workers=1) as client:
        future = client.submit(time.sleep, 60, pure=False)
        monkeypatch.setattr(tasks.fit_workers, "able_workers", lambda *arguments, **options: frozenset())
        with pytest.raises(ClusterError, match=r"^this machine's own workers are gone .*: run again"):
            list(FitWorkers(client).outcomes({future: "work"}))


@pytest.mark.slow
def test_gpu_workers_that_come_back_in_time_finish_the_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.2)
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(20)))
    with dask_processes(tmp_path / "dask") as cluster:
        owner = cluster.add_worker("gpu", *OWNS_A_GPU)
        with Client(cluster.address) as client:
            workers = FitWorkers(client, fit_resources(client, "auto"))
            cluster.hang(owner)
            submitted = submit_chunk(Dispatch(workers, inspection), entries)
            cluster.kill(owner)
            cluster.add_worker("another", *OWNS_A_GPU)
            records = submitted.collected().records
    assert [record.status for record in records] == ["inspected"] * 20


@pytest.mark.slow
def test_a_scheduler_that_goes_away_ends_the_run_with_a_word_and_no_trace_and_blames_no_image(tmp_path, monkeypatch):
    told, log = logging.handlers.BufferingHandler(capacity=1000), logging.getLogger("distributed.client")
    monkeypatch.setattr(log, "handlers", [told])
    inspection, entries = prepared(tmp_path, *(f"{number}.png" for number in range(40)))
    with dask_processes(tmp_path / "dask") as cluster:
        worker = cluster.add_worker("core")
        with dask_client(cluster.address) as client:
            cluster.hang(worker)
            submitted = submit_chunk(Dispatch(FitWorkers(client), inspection), entries)
            cluster.kill(cluster.scheduler)
            with pytest.raises(ClusterError, match=f"{cluster.address} went away.*run again"):
                submitted.collected()
    assert [record for record in told.buffer if record.exc_info] == []


class SlowlySent:
    """A result that takes seconds to leave the worker: its future is finished, and it is still under way."""

    def __getstate__(self):
        time.sleep(3)
        return {}


@pytest.mark.slow
def test_a_scheduler_that_is_started_again_while_the_last_result_is_under_way_ends_the_run_with_a_word(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 1000)  # Not before the client is connected again.
    told = []

    def take(workers, future):
        try:
            list(workers.outcomes({future: None}))
        except ClusterError as error:
            told.append(str(error))

    with dask_processes(tmp_path / "dask") as cluster:
        cluster.add_worker("one")
        with dask_client(cluster.address) as client:
            workers = FitWorkers(client)
            future = workers.submitted(SlowlySent)
            taking = Thread(target=take, args=(workers, future), daemon=True)
            taking.start()
            wait_for(lambda: future.status == "finished", what="the result")
            cluster.restart_scheduler()
            cluster.add_worker("another")
            wait_for(lambda: client.status == "running" and able_workers(client, {}), what="the client's return")
            monkeypatch.setattr(tasks.fit_workers, "LOOKED_AFTER", 0.2)
            taking.join(30)
    assert not taking.is_alive()
    assert f"scheduler at {cluster.address} went away: start it, and run again" in told[0]


@pytest.mark.slow
def test_a_scheduler_that_went_away_is_named_whenever_its_workers_are_asked_for(tmp_path):
    with dask_processes(tmp_path / "dask") as cluster:
        cluster.add_worker("core")
        with Client(cluster.address, timeout=3) as client:
            assert len(able_workers(client, {})) == 1
            cluster.kill(cluster.scheduler)
            wait_for(lambda: client.status != "running", what="the client's notice")
            for moment in ("connecting", "closed"):
                wait_for(lambda moment=moment: client.status == moment, what=f"a client that is {moment}")
                for ask in (lambda: able_workers(client, {}), lambda: fit_resources(client, "cuda")):
                    with pytest.raises(ClusterError, match=r"scheduler at .* went away: start it, and run again"):
                        ask()


def test_a_scheduler_named_by_the_environment_is_used_where_none_is_given(monkeypatch):
    monkeypatch.setenv("SSDNET_SCHEDULER", "tcp://127.0.0.1:1")
    monkeypatch.setattr(tasks.cluster, "dask_client", partial(dask_client, timeout=1))
    with Cluster() as cluster, pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:1"):
        _ = cluster.client
