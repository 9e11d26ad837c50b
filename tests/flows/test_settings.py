import pytest

from flows.settings import changes_from, settings_as_yaml, settings_from
from ssdnet_core.config import Config
from ssdnet_core.errors import InvalidConfigError


@pytest.mark.parametrize("value", ["2026-13-45", "[", "2026-11-01T99:00:00"])
def test_what_looks_like_a_value_and_is_none_is_named(value):
    with pytest.raises(InvalidConfigError, match=r"fit\.steps="):
        changes_from([f"fit.steps={value}"])


def test_a_file_with_such_a_value_is_named(tmp_path):
    (tmp_path / "settings.yaml").write_text("seed: 2026-13-45\n")
    with pytest.raises(InvalidConfigError, match=r"settings\.yaml"):
        settings_from(None, tmp_path / "settings.yaml", changes=[])


@pytest.mark.parametrize(("text", "steps"), [("060", 60), ("08", 8), ("60", 60), ("+60", 60), ("1_000", 1000)])
def test_a_number_is_what_it_looks_like(tmp_path, text, steps):
    assert settings_from(None, None, changes=[f"fit.steps={text}"]).fit.steps == steps
    (tmp_path / "settings.yaml").write_text(f"fit: {{steps: {text}}}\n")
    assert settings_from(None, tmp_path / "settings.yaml", changes=[]).fit.steps == steps


@pytest.mark.parametrize("text", ["1:30", "0x10", "0b1", "0x_", "1e", ".nan", "-.inf"])
def test_what_is_a_number_to_yaml_alone_is_none(text):
    with pytest.raises(InvalidConfigError, match=r"fit\.steps"):
        settings_from(None, None, changes=[f"fit.steps={text}"])


@pytest.mark.parametrize(("text", "border"), [("0.1", 0.1), (".1", 0.1), ("1e-1", 0.1), ("1.0e-1", 0.1), ("0", 0.0)])
def test_a_share_may_be_written_in_any_common_way(text, border):
    assert settings_from(None, None, changes=[f"border={text}"]).border == border


@pytest.mark.parametrize("content", [None, b"\xff", b"fit: [", b"seed: 2026-13-45"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfigError, match=f"cannot read the settings in {file}: "):
        settings_from(None, file, changes=[])


def test_every_setting_is_printed_below_its_meaning():
    printed = [line.lstrip() for line in settings_as_yaml(Config()).splitlines()]
    assert [line.startswith("# ") for line in printed] == [True, False] * (len(printed) // 2)
