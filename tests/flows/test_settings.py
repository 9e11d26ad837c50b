import pytest

from flows.settings import changes_from, settings_from
from ssdnet_core.errors import InvalidConfigError


@pytest.mark.parametrize("value", ["2026-13-45", "0x_", "[", "2026-11-01T99:00:00"])
def test_what_looks_like_a_value_and_is_none_is_named(value):
    with pytest.raises(InvalidConfigError, match=r"fit\.steps="):
        changes_from([f"fit.steps={value}"])


def test_a_file_with_such_a_value_is_named(tmp_path):
    (tmp_path / "settings.yaml").write_text("seed: 2026-13-45\n")
    with pytest.raises(InvalidConfigError, match=r"settings\.yaml"):
        settings_from(None, tmp_path / "settings.yaml", changes=[])
