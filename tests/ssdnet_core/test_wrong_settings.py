import pytest

from ssdnet_core import Config, InvalidConfigError
from ssdnet_core.config import parse_config, setting_paths
from ssdnet_core.wrong_settings import no_such_setting


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("fit.step", "fit.steps"),
        ("steps", "fit.steps"),
        ("fit.border_cost", "reconstruction.border_cost"),
        ("expected_false_alarm", "verdict.expected_false_alarms"),
        ("workingsize", "working_size"),
    ],
)
def test_a_name_that_is_nearly_one_is_told_with_the_one_meant_in_a_change_and_in_a_file(path, meant):
    said = rf"there is no setting '{path}' \(did you mean {meant}\?\): one of working_size, .*min_further_area$"
    with pytest.raises(InvalidConfigError, match=said):
        Config().updated({path: 1})
    tree = 1
    for part in reversed(path.split(".")):
        tree = {part: tree}
    with pytest.raises(InvalidConfigError, match=said):
        parse_config(tree)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"fit": 3}, r"^fit = 3: this is a group of settings, and none itself$"),
        ({"fit.steps": 3}, r"^fit\.steps: in a file it is written nested, as fit: \{steps: 3\}$"),
    ],
)
def test_a_file_that_takes_a_group_for_a_setting_or_names_one_by_its_path_is_told_how(tree, said):
    with pytest.raises(InvalidConfigError, match=said):
        parse_config(tree)


def test_every_setting_is_its_own_nearest_and_what_is_far_from_all_has_none():
    for path in setting_paths():
        assert f"(did you mean {path}?)" in no_such_setting(path, setting_paths())
    assert no_such_setting("qqqq", setting_paths()).startswith("there is no setting 'qqqq': one of ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"corruption.block_sizes": 8}, r"^corruption\.block_sizes = 8: several values are wanted, as \[8, 16\]$"),
        ({"fit": 3}, r"^fit = 3: this is a group of settings, and none itself: change them one by one, as fit\.steps$"),
        # What it leaves out would go back to its default.
        ({"fit": {"crop": 64}}, r"^fit = \{'crop': 64\}: this is a group of settings.*as fit\.steps$"),
        ({"verdict.expected_false_alarms": 0}, r"^verdict\.expected_false_alarms = 0: .* greater than .* 1e-100$"),
        ({"device": "tpu"}, r"^device = 'tpu': choose auto, cpu, mps or cuda, or outside the pipeline cuda:1$"),
        ({"fit.steps": -1, "border": 0.7}, r"^border = 0\.7: [^;]*0\.45; fit\.steps = -1: [^;]*0$"),
    ],
)
def test_what_is_wrong_with_a_value_is_told_without_types_and_patterns(changes, said):
    with pytest.raises(InvalidConfigError, match=said):
        Config().updated(changes)
