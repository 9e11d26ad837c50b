import os
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from flows import batch_command, summary
from flows.command_line import app
from flows.interruption import raise_when_interrupted
from flows.settings import settings_as_yaml, settings_from
from ssdnet_core.config import METHOD_VERSION, Config
from ssdnet_core.errors import InvalidConfigError, SsdnetError
from tasks import report, trend_page
from tasks.batch_results import BatchResults
from tasks.finished_batch import read_sealed
from tasks.maps import write_map
from tasks.records import ImageRecord, write_record
from tasks.seal import break_seal, make_seal, set_seal
from tasks.storage import Storage
from tests.conftest import ROOT, free_port
from tests.tasks.prepared import founded
from tests.tasks.small_images import write_image


def test_help_needs_neither_torch_nor_prefect():
    code = (
        "import sys\n"
        "sys.argv = ['ssdnet', '--help']\n"
        "from flows.command_line import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print({name for name in ('torch', 'prefect', 'distributed', 'zarr', 'numpy') if name in sys.modules})"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "inspect" in finished.stdout
    assert finished.stdout.strip().endswith("set()")


@pytest.mark.parametrize("command", ["inspect", "evaluate"])
def test_a_pattern_that_the_shell_has_expanded_is_asked_for_in_quotes(command):
    refused = CliRunner().invoke(app, [command, "a.png", "--results", "results", "b.png", "c.png"])
    assert refused.exit_code == 2
    assert "'b.png'" in refused.stderr
    assert "'night/*.png'" in refused.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_while_a_command_starts_each_signal_to_end_ends_it_at_once(
    monkeypatch, capfd, handled_as_a_command_starts, name
):
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.Signals[name])
    assert (ended.value.code, capfd.readouterr().err) == (1, "ssdnet: stopped before anything was begun\n")


@pytest.mark.parametrize(("name", "imported"), [("SIGINT", "typer"), ("SIGTERM", "zarr")], ids=["early", "late"])
def test_a_signal_to_end_during_an_import_ends_the_command_even_if_the_import_would_swallow_it(
    tmp_path, name, imported
):
    (tmp_path / f"{imported}.py").write_text(
        f"import signal\ntry: signal.raise_signal(signal.{name})\nexcept KeyboardInterrupt: pass\n"
    )
    finished = subprocess.run(
        [sys.executable, "-m", "flows", "inspect", tmp_path, "--results", tmp_path / "results", "--json"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stderr) == (1, "ssdnet: stopped before anything was begun\n")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        ("tasks.report.draw_again", ["report", "batch"]),
        ("tasks.trend_page.write_all_trends", ["trends", "results"]),
        ("flows.sample_command.make_images", ["sample", "folder"]),
        ("infra.local.home.stop", ["down"]),
    ],
)
def test_while_a_command_works_a_signal_to_end_is_an_exception_that_it_can_clean_up_after(
    monkeypatch, handled_as_a_command_starts, work, arguments
):
    monkeypatch.setattr(work, lambda *arguments, **options: signal.raise_signal(signal.SIGTERM))
    stopped = CliRunner().invoke(app, arguments)
    assert (stopped.exit_code, stopped.stderr) == (
        1,
        "ssdnet: stopped. What is done is kept: run the same command again to go on.\n",
    )


@pytest.mark.parametrize(("command", "printing"), [("inspect", "print_outcome"), ("evaluate", "print_measured")])
def test_a_signal_to_end_while_the_outcome_is_printed_is_told(
    monkeypatch, handled_as_a_command_starts, command, printing
):
    monkeypatch.setattr(batch_command, "run_batch_flow", lambda *of, as_json: raise_when_interrupted())
    monkeypatch.setattr(summary, printing, lambda *of, as_json: signal.raise_signal(signal.SIGTERM))
    stopped = CliRunner().invoke(app, [command, "/in", "--results", "/out"])
    assert (stopped.exit_code, stopped.stderr) == (
        1,
        "ssdnet: stopped. What is done is kept: run the same command again to go on.\n",
    )


def test_the_version_is_that_of_the_program_and_of_the_method(ssdnet):
    finished = ssdnet("--version")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert finished.stdout == f"ssdnet {project['version']}, version {METHOD_VERSION} of the method\n"


def test_the_server_of_an_inspection_starts_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import os, subprocess, sys\n"
        f"sys.argv = ['ssdnet', 'inspect', 'night', '--results', '{tmp_path}']\n"
        "from flows.command_line import app\n"
        "def start(*command, **options):\n"
        "    print({name for name in ('torch', 'prefect', 'distributed', 'fsspec', 'numpy') if name in sys.modules})\n"
        "    sys.exit()\n"
        "subprocess.Popen = start\n"
        "app()"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


def test_printed_settings_read_back_as_the_same(tmp_path):
    config = Config.preset("paper").updated({"fit.steps": 7, "corruption.block_sizes": [8, 16]})
    (tmp_path / "settings.yaml").write_text(settings_as_yaml(config))
    assert settings_from(None, tmp_path / "settings.yaml", changes=[]) == config


def test_single_changes_come_last(tmp_path):
    (tmp_path / "settings.yaml").write_text("fit: {steps: 7}")
    config = settings_from(None, tmp_path / "settings.yaml", changes=["fit.steps=9", "corruption.block_sizes=[8, 16]"])
    assert config.fit.steps == 9
    assert config.corruption.block_sizes == (8, 16)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "fit.stepz=5"], "fit.stepz"),
        (["--set", "fit.steps=-1"], "fit.steps"),
        (["--set", "fit.steps"], "name=value"),
        (["--set", "fit.steps=[1"], "fit.steps"),
        (["--preset", "swift"], "default, fast, paper"),
        (["--config", "/does/not/exist.yaml"], "/does/not/exist.yaml"),
        (["--config", "/does/not/exist.yaml", "--preset", "paper"], "exclude each other"),
        (["--config", "/does/not/exist.yaml", "--preset", "default"], "exclude each other"),
        (["--workers", "0"], "--workers"),
        (["--group", "0"], "--group"),
        (["--group", "257"], "--group"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_names_what_is_wrong(ssdnet, tmp_path, arguments, named):
    finished = ssdnet("inspect", tmp_path, "--results", tmp_path / "out", *arguments)
    assert finished.returncode == 2
    assert named in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_name_that_the_terminals_encoding_has_not_is_escaped(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    finished = subprocess.run(
        [sys.executable, "-m", "flows", "report", tmp_path / "e\u0301\u4e2d"], capture_output=True, check=False
    )
    assert finished.returncode == 1
    assert b"e\\u0301\\u4e2d: give the folder of one batch" in finished.stderr


def test_a_file_that_holds_no_settings_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n- 2")
    with pytest.raises(InvalidConfigError, match=r"list\.yaml"):
        settings_from(None, tmp_path / "list.yaml", changes=[])


def test_a_setting_given_twice_in_a_file_is_refused_with_its_name_and_line(tmp_path):
    (tmp_path / "twice.yaml").write_text("fit: {steps: 7}\nseed: 1\nfit: {crop: 64}\n")
    with pytest.raises(InvalidConfigError, match=r"(?s)twice\.yaml: fit is given twice.*line 3"):
        settings_from(None, tmp_path / "twice.yaml", changes=[])


def test_a_switch_is_turned_by_a_word_and_no_number_is(tmp_path):
    assert not settings_from(None, None, changes=["leave_out_frame=false"]).leave_out_frame
    with pytest.raises(InvalidConfigError, match=r"fit\.steps = True.*no switch"):
        settings_from(None, None, changes=["fit.steps=yes"])


def test_a_report_of_nothing_is_refused(ssdnet, tmp_path):
    finished = ssdnet("report", tmp_path)
    assert finished.returncode == 1
    assert "holds no batch" in finished.stderr


@pytest.fixture
def sealed(tmp_path):
    """A sealed batch of one image, with a gallery; its folder, its manifest and its record."""
    write_image(tmp_path / "night" / "a.png")
    folder, manifest = founded(tmp_path, config=Config())
    [entry] = manifest.entries
    size = {"height": entry.height, "width": entry.width, "working_height": 8, "working_width": 8}
    digest = write_map(folder, entry.index, anomaly_map=np.zeros((8, 8), dtype=np.float32))
    known = {"index": entry.index, "key": entry.key, "etag": entry.etag, "fingerprint": "f"}
    record = ImageRecord(**known, status="inspected", map_digest=digest, regions_from=7.1, **size)
    folder.write("manifest.json", manifest.to_json())
    write_record(folder, record)
    set_seal(folder, make_seal(BatchResults(manifest, {entry.index: record})))
    folder.write("report/index.html", b"of the seal")
    return folder, manifest, record


@pytest.mark.parametrize("run", ["has sealed", "has broken the seal", "has replaced a map"])
def test_a_report_beside_a_run_leaves_the_gallery_of_the_run(sealed, monkeypatch, run):
    folder, manifest, record = sealed

    def inspected_meanwhile(address):
        read = read_sealed(address)
        break_seal(folder)
        if run == "has replaced a map":
            write_map(folder, record.index, anomaly_map=np.ones((8, 8), dtype=np.float32))
        elif run == "has sealed":
            set_seal(folder, make_seal(BatchResults(manifest, {record.index: replace(record, score=9.0)})))
        folder.write("report/index.html", b"of the run")
        return read

    monkeypatch.setattr(report, "read_sealed", inspected_meanwhile)
    finished = CliRunner().invoke(app, ["report", folder.address])
    assert finished.exit_code == 1
    assert f"{folder.address} was inspected anew meanwhile, or is now: run this again" in finished.stderr
    assert folder.read("report/index.html") == b"of the run"


def test_a_report_draws_the_gallery_of_a_sealed_batch(sealed):
    folder, *_ = sealed
    finished = CliRunner().invoke(app, ["report", folder.address])
    assert (finished.exit_code, finished.stdout) == (0, f"{folder.address}/report/index.html\n")
    assert b"a.png" in folder.read("report/index.html")


def test_sample_writes_without_further_settings(ssdnet, tmp_path):
    finished = ssdnet("sample", tmp_path / "night", "--images", "2")
    assert finished.returncode == 0, finished.stderr
    assert "2 images, 1 of them with a defect" in finished.stdout
    assert len(list((tmp_path / "night").rglob("*.png"))) == 3


def test_sample_plants_defects_into_photographs(ssdnet, tmp_path):
    made = ssdnet("sample", tmp_path / "good", "--images", "1")
    assert made.stdout.startswith("1 image, a good one, in ")
    finished = ssdnet("sample", tmp_path / "night", "--photographs", tmp_path / "good")
    assert finished.returncode == 0, finished.stderr
    assert "4 images, 3 of them with a defect" in finished.stdout
    assert len(list((tmp_path / "night").rglob("*_mask.png"))) == 3
    refused = ssdnet("sample", tmp_path / "night", "--photographs", tmp_path / "nowhere")
    assert refused.returncode != 0
    assert "nowhere" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_backfill_without_a_server_says_how_to_get_one(ssdnet):
    finished = ssdnet("backfill", "--start", "2026-11-01", "--end", "2026-11-02")
    assert finished.returncode == 1
    assert "PREFECT_API_URL" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_backfill_of_a_server_that_is_away_names_its_address(ssdnet, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    finished = ssdnet("backfill", "--start", "2026-11-01", "--end", "2026-11-02", "--dry-run")
    assert finished.returncode == 1
    assert os.environ["PREFECT_API_URL"] in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--start", "yesterday"], "'yesterday' is no day: give it as YYYY-MM-DD"),
        (["--start", "28.11.2026"], "'28.11.2026' is no day: give it as YYYY-MM-DD"),
        (["--start", "2026-11-01", "--at-most", "0"], "--at-most"),
        (["--start", "2026-11-01", "--preset", "swift"], "default, fast, paper"),
    ],
)
def test_a_backfill_used_wrongly_ends_with_status_2(ssdnet, arguments, named):
    finished = ssdnet("backfill", "--end", "2026-11-02", *arguments)
    assert finished.returncode == 2
    assert named in finished.stderr


def test_a_backfill_of_days_and_of_the_last_nights_at_once_is_wrong_usage_and_so_is_one_of_neither(ssdnet):
    for arguments in (["--last", "3", "--start", "2026-11-01"], []):
        finished = ssdnet("backfill", *arguments)
        assert finished.returncode == 2
        assert "give start and end (--start and --end), or else last" in finished.stderr


@pytest.mark.parametrize("command", ["inspect", "evaluate"])
def test_every_option_of_a_batch_reaches_its_flow(monkeypatch, command):
    given = []

    def run(flow, parameters, *, as_json):
        given.append((flow.partition(":")[2], parameters, as_json))
        raise SsdnetError("seen")

    monkeypatch.setattr(batch_command, "run_batch_flow", run)
    options = ["--batch", "b", "--masks", "/masks", "--preset", "fast", "--set", "seed=3", "--group", "4"]
    options += ["--scheduler", "tcp://host:8786", "--workers", "2", "--retry-failed", "--json"]
    CliRunner().invoke(app, [command, "/in", "--results", "/out", *options])
    parameters = {
        "input": "/in",
        "results": "/out",
        "batch": "b",
        "masks": "/masks",
        "config": Config.preset("fast").updated({"seed": 3}),
        "scheduler": "tcp://host:8786",
        "workers": 2,
        "group": 4,
        "retry_failed": True,
    }
    assert given == [(command, parameters, True)]


@pytest.mark.parametrize("anew", [False, True])
def test_every_option_of_trends_reaches_what_draws_them(monkeypatch, anew):
    given = []
    monkeypatch.setattr(trend_page, "write_all_trends", lambda *of, anew: given.append((*of, anew)) or [])
    CliRunner().invoke(app, ["trends", "/out", "--line", "a", "--line", "b", *(["--anew"] if anew else [])])
    assert given == [(Storage("/out"), ["a", "b"], anew)]


def test_trends_of_nothing_are_refused(ssdnet, tmp_path):
    (tmp_path / "carpet").mkdir()
    finished = ssdnet("trends", tmp_path)
    assert finished.returncode == 2
    assert "LINE-YYYY-MM-DD" in finished.stderr
