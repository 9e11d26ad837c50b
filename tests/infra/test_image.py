"""The Dockerfile, and the versions that every file names."""

import fnmatch
import re
import tomllib

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def dockerfile(infra):
    return (infra / "docker" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_everything_that_the_image_copies_is_there_and_not_ignored(dockerfile):
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, pattern) for pattern in kept), f".dockerignore leaves {source} out"


def test_no_secret_of_compose_comes_into_the_image():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    # The last pattern that fits decides.
    assert lines.index("infra/compose") > lines.index("!infra")
    for secret in (".env", "secrets", "certificates"):
        assert f"infra/compose/{secret}" in (ROOT / ".gitignore").read_text()


def test_every_package_of_the_project_is_in_the_image(dockerfile, project):
    for package in project["tool"]["setuptools"]["packages"]["find"]["include"]:
        name = package.rstrip("*")
        assert f"COPY {name} {name}" in dockerfile


def test_the_image_is_of_the_python_that_the_versions_were_tried_on(dockerfile):
    tried = re.search(r"on Python (\d+\.\d+)", (ROOT / "constraints.txt").read_text())[1]
    base = re.search(r"^ARG PYTHON=(\S+)$", dockerfile, re.MULTILINE)[1]
    assert re.fullmatch(rf"{re.escape(tried)}\.\d+-slim-\w+", base)


def test_every_installation_is_held_by_the_constraints(dockerfile, pinned):
    commands = re.findall(r"pip install [^&]+", re.sub(r"\\\n", "", dockerfile))
    assert commands
    for command in commands:
        assert "--constraint constraints.txt" in command or "--no-deps --editable" in command, command
    assert {"torch", "asyncpg", "prefect"} <= set(pinned), "the image names them without a version"


def test_the_image_does_not_run_as_root(dockerfile, infra):
    final = dockerfile.rpartition("FROM ")[2]
    user = re.search(r"^USER (\d+):\d+$", final, re.MULTILINE)[1]
    assert user != "0"
    for path in (infra / "kubernetes").rglob("*.yaml"):
        assert set(re.findall(r"runAsUser: (\d+)", path.read_text())) <= {user}, path.name


@pytest.mark.parametrize("suffix", ["*.yaml", ".env.example", "*.json", "Dockerfile"])
def test_all_files_name_the_project_s_own_version(infra, project, suffix):
    version = project["project"]["version"]
    named = [
        found
        for path in infra.rglob(suffix)
        for found in re.findall(r"(?:ssdnet-inspect:|SSDNET_VERSION=)(\d[\w.]*)", path.read_text())
    ]
    assert named
    assert set(named) == {version}


def test_prefect_is_the_same_version_everywhere(infra, pinned):
    named = [
        tag
        for path in (infra / "kubernetes").glob("*.values.yaml")
        for tag in re.findall(r"prefectTag: (\d+\.\d+\.\d+)-", path.read_text())
    ]
    assert set(named) == {pinned["prefect"]}
    assert len(named) == 2
    assert f"prefect-version: {pinned['prefect']}" in (ROOT / "prefect.yaml").read_text()
