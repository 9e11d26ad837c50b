import os
import subprocess
from dataclasses import replace

import pytest

import tasks.local_workers
from infra.local.endpoints import Endpoints
from infra.local.errors import LocalStackError
from infra.local.parts import StackSettings, foreign_environment, parts, stack_environment, write_shell_environment
from infra.local.registration import Project

PROJECT = Project(pools=("inspection", "backfills"), nights=("line-1",), lines=("line-1",), timezone="UTC")


@pytest.fixture
def settings(tmp_path):
    endpoints = Endpoints(prefect=1, scheduler=2, dashboard=3, s3=4, gallery=5)
    return StackSettings(
        home=tmp_path, endpoints=endpoints, images="s3://images", results=str(tmp_path / "results"), trial_storage=False
    )


def test_settings_for_shells_that_cannot_be_written_are_told(settings, tmp_path):
    with pytest.raises(LocalStackError, match=r"cannot write .*, the settings of this stack's shells: Is a directory"):
        write_shell_environment(tmp_path, settings)


FOREIGN = {"PREFECT_PROFILE": "plant", "DASK_LOGGING__DISTRIBUTED": "info", "AWS_ENDPOINT_URL_S3": "http://plant"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("foreign", [FOREIGN, {}])
def test_a_shell_of_this_stack_forgets_the_users_own_servers(settings, tmp_path, shell, foreign):
    trial = replace(settings, trial_storage=True)
    write_shell_environment(tmp_path / "environment.sh", trial)
    told = subprocess.run(
        [shell, "-e", "-c", f". {tmp_path / 'environment.sh'}; env"],
        env={"PATH": os.environ["PATH"], "LINES": "\nAWS_PROFILE=no variable", **foreign},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert not set(FOREIGN) & {line.partition("=")[0] for line in told}
    assert {f"{name}={value}" for name, value in stack_environment(trial).items()} <= set(told)
    write_shell_environment(tmp_path / "environment.sh", settings)
    assert "AWS" not in (tmp_path / "environment.sh").read_text(), "without the S3 server, the user's storage is used"


def test_a_part_that_went_away_does_not_answer_whatever_it_is_asked(settings):
    stack = parts(settings, PROJECT)
    for part in (stack.server, *stack.cluster, stack.gallery, *stack.runners):
        assert not part.answers()


def test_each_worker_of_a_gpu_is_a_part_with_a_log_of_its_own_that_declares_it(settings, monkeypatch):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ("0", "3"))
    _, *workers = parts(replace(settings, workers=5), PROJECT).cluster
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in workers] == ["0", "3", "0", "3", "0"]
    assert len({worker.name for worker in workers}) == 5
    for worker in workers:
        assert worker.command[worker.command.index("--resources") + 1] == "GPU=1"
        assert worker.command[worker.command.index("--nthreads") + 1] == "1"


def test_cores_share_one_command_that_declares_nothing(settings, monkeypatch):
    monkeypatch.setattr(tasks.local_workers, "visible_gpus", lambda: ())
    _, workers = parts(replace(settings, workers=3), PROJECT).cluster
    assert workers.command[workers.command.index("--nworkers") + 1] == "3"
    assert "--resources" not in workers.command


def test_the_scheduler_is_set_up_as_everywhere_else(settings, scheduler_environment):
    scheduler, *_ = parts(settings, PROJECT).cluster
    assert scheduler.environment.items() >= scheduler_environment.items()


def test_each_work_pool_has_a_worker(settings):
    assert [runner.name for runner in parts(settings, PROJECT).runners] == [
        "Prefect worker of inspection",
        "Prefect worker of backfills",
    ]


def test_the_users_own_servers_play_no_part(settings, monkeypatch):
    for name in ("PREFECT_API_URL", "DASK_SCHEDULER_ADDRESS", "AWS_PROFILE"):
        monkeypatch.setenv(name, "elsewhere")
    own = foreign_environment(settings)
    assert not {"PREFECT_API_URL", "DASK_SCHEDULER_ADDRESS"} & set(own)
    assert own["AWS_PROFILE"] == "elsewhere", "without the S3 server for trying, the user's storage is used"
    assert "AWS_PROFILE" not in foreign_environment(replace(settings, trial_storage=True))
    assert "AWS_ENDPOINT_URL" not in stack_environment(settings)


def test_a_relative_folder_of_results_is_the_one_where_the_user_is(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert stack_environment(replace(settings, results="here"))["SSDNET_RESULTS"] == str(tmp_path / "here")


def test_a_missing_s3_server_is_named_with_both_ways_out(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("infra.local.parts.MOTO_SERVER", tmp_path / "none")
    with pytest.raises(LocalStackError, match=r"make up.*--no-s3"):
        parts(replace(settings, trial_storage=True), PROJECT)
