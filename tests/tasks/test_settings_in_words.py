from dataclasses import replace

import pytest
import yaml

from ssdnet_core.config import PRESETS, Config
from tasks.manifest import Manifest
from tasks.settings_in_words import DEFAULT, settings_in_words, settings_of


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_told_by_its_name(name):
    assert settings_in_words(Config.preset(name)) == (DEFAULT if name == "default" else f"preset {name}")


@pytest.mark.parametrize(
    ("preset", "changes", "words"),
    [
        ("default", {"device": "cpu"}, DEFAULT),
        ("default", {"fit.steps": 60}, DEFAULT),
        ("default", {"fit.steps": 50}, "fit.steps=50"),
        ("default", {"precision": "float32", "seed": 3}, 'seed=3, precision="float32"'),
        ("fast", {"border": 0.05}, "preset fast, border=0.05"),
        ("fast", {"fit.steps": 41}, "fit.steps=41"),
        ("default", {"leave_out_frame": False}, "leave_out_frame=false"),
    ],
)
def test_what_differs_from_the_default_is_told_and_nothing_else(preset, changes, words):
    assert settings_in_words(Config.preset(preset).updated(changes)) == words


def test_what_is_told_makes_the_same_settings_again():
    config = Config().updated({"corruption.block_sizes": [8, 16], "verdict.expected_false_alarms": 0.01})
    told = dict(change.split("=") for change in settings_in_words(config).replace("8, 16", "8,16").split(", "))
    assert Config().updated({path: yaml.safe_load(value) for path, value in told.items()}) == config


def test_a_batch_of_another_version_of_the_method_says_so():
    manifest = Manifest(batch="n", input="/in", pattern="", config=Config())
    assert settings_of(manifest) == DEFAULT
    assert settings_of(replace(manifest, fingerprint="0a1b2c3d4e5f")) == f"{DEFAULT}, in another version of the method"
