"""What the gallery server hands out, and what it does not, over real HTTP connections."""

import http.client
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from infra.gallery_server import GalleryHandler, gallery_server
from tasks.storage import Storage
from tests.conftest import ROOT, accepts, free_port, wait_for


@contextmanager
def serving(results: Storage) -> Iterator[int]:
    """Serve the galleries of some results; gives the port."""
    server = gallery_server(results)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(results: Path, *options: str) -> Iterator[int]:
    """Run the server as a command of its own; gives the port."""
    port = free_port()
    command = [sys.executable, "-m", "infra.gallery_server", str(results), "--port", str(port), *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: accepts(port) or process.poll() is not None, what="the gallery server")
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder of results beside a secret, and the port at which it is served."""
    root = tmp_path_factory.mktemp("served")
    for name, content in {
        "secret.html": "secret",
        "results/night <1>/report/index.html": "<p>worst first</p>",
        "results/night <1>/report/images/0000000.jpg": "a photograph",
        "results/night <1>/images.csv": "key,score",
        "results/night <1>/others.csv": "no table of ours",
        "results/night <1>/seal.json": "{}",
        "results/.hidden/report/index.html": "hidden",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "results" / "night <1>" / "report" / "link.html").symlink_to(root / "secret.html")
    with serving(Storage(str(root / "results"))) as port:
        yield root, port


def asked(port: int, path: str, *, method: str = "GET", host: str | None = None) -> tuple[int, str, str]:
    """Return status, kind and text; the path goes out as it is, which a browser or urllib would not let it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host=host is not None)
    if host:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers.get("Content-Type", ""), text


def test_pages_pictures_and_tables_of_images_come_as_what_they_are(served):
    _, port = served
    assert asked(port, "/night%20%3C1%3E/report/index.html") == (200, "text/html; charset=utf-8", "<p>worst first</p>")
    assert asked(port, "/night%20%3C1%3E/report/images/0000000.jpg") == (200, "image/jpeg", "a photograph")
    assert asked(port, "/night%20%3C1%3E/images.csv") == (200, "text/csv; charset=utf-8", "key,score")
    assert asked(port, "/night%20%3C1%3E/report/index.html?day=1")[0] == 200
    assert asked(port, "/night%20%3C1%3E/report/index.html", method="HEAD")[::2] == (200, "")


@pytest.mark.parametrize("path", ["/", "/night%20%3C1%3E/report/index.html", "/health"])
def test_a_browser_is_told_not_to_guess_what_an_answer_is(served, path):
    _, port = served
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_lists_of_folders_are_served_and_what_is_no_folder_nor_file_is_not_there(tmp_path):
    results = Storage(str(tmp_path))
    for key in ("plant 2/line-1/a/report/index.html", "plant 2/line-1/a/manifest.json", "b/manifest.json"):
        results.write(key, b"worst first")
    (tmp_path / "plant 2" / "out").symlink_to(tmp_path.parent)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "there.png").write_bytes(b"")
    with serving(results) as port:
        for path in ("", "plant%202/"):
            status, kind, page = asked(port, f"/{path}")
            assert (status, kind) == (200, "text/html; charset=utf-8")
        assert '<a href="/plant%202/line-1/">line-1</a>' in page
        assert asked(port, "/plant%202/line-1/a/report/index.html")[0] == 200
        for path in ("b/", "plant%202/line-1/a/", "plant%202/line-1/a/report/", "plant%202/out/", "nowhere/", "../"):
            assert asked(port, f"/{path}")[0] == 404
        for path in ("loop.png", "loop.png/", "there.png/", "there.png/a.png", f"{'a' * 300}.png"):
            assert asked(port, f"/{path}")[0] == 404


def test_a_page_that_is_not_there_says_so_in_words_and_leads_to_those_that_are(served):
    _, port = served
    status, kind, page = asked(port, "/gone/report/index.html")
    assert (status, kind) == (404, "text/html; charset=utf-8")
    assert "may have been removed" in page
    assert '<a href="/">All galleries</a>' in page


def test_a_connection_on_which_nothing_is_asked_any_more_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(GalleryHandler, "timeout", GalleryHandler.timeout / 300)
    with (
        serving(Storage(str(tmp_path))) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as kept,
        kept.makefile("rb") as answers,
    ):
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answers.read().endswith(b"ok"), "all there is until the server closes it"


@pytest.mark.parametrize("hangs_up", [True, False], ids=["hangs up", "stops reading"])
def test_a_browser_that_takes_no_whole_answer_is_no_error_of_the_storage(tmp_path, monkeypatch, capsys, hangs_up):
    monkeypatch.setattr(GalleryHandler, "timeout", GalleryHandler.timeout / 300)
    results = Storage(str(tmp_path))
    results.write("picture.png", bytes(10_000_000))
    browser, connection = socket.socketpair()
    with browser:
        browser.sendall(b"GET /picture.png HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if hangs_up:
            browser.close()
        with connection:
            GalleryHandler(connection, ("browser", 0), None, results=results, hosts=("localhost",))
        if not hangs_up:
            with browser.makefile("rb") as answers:
                assert len(answers.read()) < 10_000_000
    told = capsys.readouterr().err
    assert '"GET /picture.png HTTP/1.1" 200' in told
    assert "502" not in told


@pytest.fixture
def store_away(monkeypatch):
    """An S3 store that does not answer."""
    away = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    for name, value in {**away, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield Storage("s3://results")
    S3FileSystem.clear_instance_cache()


def test_a_store_that_is_away_is_told_and_the_server_stays_healthy(store_away):
    with serving(store_away) as port:
        for path in ("/", "/line-1-2026-11-22/report/index.html"):
            status, _, text = asked(port, path)
            assert status == 502
            assert "storage" in text
        assert asked(port, "/health") == (200, "text/plain", "ok")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/..%2fsecret.html",
        "/night%20%3C1%3E/report/../../../secret.html",
        "/night%20%3C1%3E/report/..%5c..%5c..%5csecret.html",
        "//secret.html",
        "/night%20%3C1%3E/report/link.html",
        "/night%20%3C1%3E/report/index.html%00.html",
        "/night%20%3C1%3E/seal.json",
        "/night%20%3C1%3E/others.csv",
        "/night%20%3C1%3E/report",
        "/night%20%3C1%3E/report/none.html",
        "/.hidden/report/index.html",
        "http://127.0.0.1/../secret.html",
        "http://[/night/report/index.html",
        "http://127.0.0.1",
    ],
)
def test_nothing_else_is_handed_out(served, path):
    _, port = served
    status, _, text = asked(port, path, host="localhost")
    assert status == 404
    assert "secret" not in text


def test_an_absolute_path_finds_nothing_outside(served):
    root, port = served
    assert asked(port, f"/{root}/secret.html")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(served, method):
    _, port = served
    assert asked(port, "/night%20%3C1%3E/report/index.html", method=method)[0] == 501


def test_a_page_elsewhere_cannot_read_by_giving_the_server_a_name_of_its_own(served):
    _, port = served
    for name in (f"elsewhere.example:{port}", "[", "[::1"):
        assert asked(port, "/", host=name)[0] == 403
    assert asked(port, "/", host=f"localhost:{port}")[0] == 200


def test_a_server_that_listens_everywhere_answers_only_to_the_names_that_it_was_given(tmp_path):
    with running(tmp_path, "--host", "0.0.0.0", "--allow-host", "Gallery.Example", "--allow-host", "::1") as port:
        assert asked(port, "/", host=f"gallery.example:{port}")[0] == 200
        assert asked(port, "/", host=f"[::1]:{port}")[0] == 200
        for name in (f"elsewhere.example:{port}", f"localhost:{port}"):
            assert asked(port, "/", host=name)[0] == 403


def test_a_server_that_listens_everywhere_and_was_given_no_name_answers_to_all(tmp_path):
    with running(tmp_path, "--host", "0.0.0.0") as port:
        assert asked(port, "/", host="elsewhere.example")[0] == 200


def test_names_that_are_allowed_are_added_to_those_of_the_loopback_address(tmp_path):
    with running(tmp_path, "--allow-host", "gallery.example") as port:
        for name in ("gallery.example", "localhost", "127.0.0.1"):
            assert asked(port, "/", host=name)[0] == 200
        assert asked(port, "/", host="elsewhere.example")[0] == 403


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://plant/results",), "cannot read http://"),
        (("",), "an address is empty"),
        ((".", "--port", "99999"), "cannot listen on 127.0.0.1, port 99999"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_line(arguments, said):
    command = [sys.executable, "-m", "infra.gallery_server", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("gallery_server: ")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
