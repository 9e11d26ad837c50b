import copy
import json
import pickle
import re
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from ssdnet_core import Config, InvalidConfigError, SsdnetError, config
from ssdnet_core.config import PRESETS, FitConfig, parse_config, setting_paths

OTHER_VALUES = {
    "working_size": 128,
    "border": 0.1,
    "leave_out_frame": False,
    "selvage": 0.25,
    "weaken_noise": False,
    "seed": 1,
    "device": "cpu",
    "precision": "float32",
    "network.width": 16,
    "network.unshuffle": 2,
    "corruption.block_sizes": (8, 16),
    "corruption.mask_ratio": 0.5,
    "corruption.shuffle_ratio": 0.25,
    "corruption.noise": 0.0,
    "loss.masked_weight": 2.0,
    "loss.visible_weight": 0.0,
    "loss.perceptual_weight": 0.25,
    "fit.steps": 50,
    "fit.crop": 64,
    "fit.batch": 4,
    "fit.learning_rate": 1e-3,
    "fit.weight_decay": 0.0,
    "fit.warmup": 0.25,
    "reconstruction.block": 32,
    "reconstruction.shifts": 1,
    "reconstruction.tile": 512,
    "reconstruction.border_cost": False,
    "score.local_energy": 4.0,
    "score.local_colour": 0.5,
    "score.residual_pattern": 2.0,
    "score.inner_product": 0.0,
    "score.likeness": 0.5,
    "verdict.expected_false_alarms": 0.01,
    "verdict.share_of_peak": 0.5,
    "verdict.min_area": 20,
    "verdict.min_further_area": 5,
}


def fields(model=Config, prefix=""):
    """Yield (dotted path, field, is it a group) of all settings and groups of settings."""
    for name, field in model.model_fields.items():
        group = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        yield prefix + name, field, group
        if group:
            yield from fields(field.annotation, f"{prefix}{name}.")


def schemas():
    """Return the JSON schema of each single setting by its dotted path."""
    whole = Config.model_json_schema()

    def walk(schema, prefix=""):
        for name, part in schema["properties"].items():
            target = part.get("$ref") or part.get("allOf", [{}])[0].get("$ref")
            if target:
                yield from walk(whole["$defs"][target.rsplit("/", 1)[1]], f"{prefix}{name}.")
            else:
                yield prefix + name, part

    return dict(walk(whole))


def in_another_process(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": "", **environment}
    )
    return run.stdout.strip()


def test_the_table_above_changes_every_setting():
    assert list(OTHER_VALUES) == setting_paths()
    assert setting_paths() == [path for path, _, group in fields() if not group]


def test_every_setting_and_group_has_a_description():
    for path, field, _ in fields():
        assert field.description, path
        assert re.fullmatch(r"\S+( \S+)+\.", field.description), path


def test_every_number_has_a_lower_bound_and_nearly_all_an_upper_one():
    unlimited = set()
    for path, schema in schemas().items():
        if schema.get("type") in ("integer", "number") and "enum" not in schema:
            assert {"minimum", "exclusiveMinimum"} & schema.keys(), path
            if not {"maximum", "exclusiveMaximum"} & schema.keys():
                unlimited.add(path)
    assert unlimited <= {"verdict.min_area", "verdict.min_further_area"}


def test_a_value_beyond_any_bound_is_refused_by_name():
    checked = 0
    for path, schema in schemas().items():
        beyond = [schema["minimum"] - 1] if "minimum" in schema else []
        beyond += [schema["maximum"] + 1] if "maximum" in schema else []
        beyond += [schema[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in schema]
        beyond += [float("nan")] if schema.get("type") == "number" else []
        for value in beyond:
            checked += 1
            with pytest.raises(InvalidConfigError) as caught:
                Config().updated({path: value})
            assert path in str(caught.value)
            assert repr(value) in str(caught.value)
    assert checked > 40


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"fit.step": 5}, r"'fit\.step'.*fit\.steps"),
        ({"steps": 5}, r"'steps'.*fit\.steps"),
        ({"fit.steps.now": 5}, r"'fit\.steps\.now'"),
        ({"": 5}, r"''"),
        ({"network.unshuffle": 3}, r"network\.unshuffle.*3"),
        ({"network.width": 12}, r"network\.width.*12"),
        ({"fit.crop": 100}, r"fit\.crop.*100"),
        ({"fit.steps": "many"}, r"fit\.steps.*'many'"),
        ({"fit.steps": 1.5}, r"fit\.steps.*1\.5"),
        ({"fit.steps": True}, r"fit\.steps.*True.*no switch"),
        ({"fit.warmup": False}, r"fit\.warmup.*False.*no switch"),
        ({"network.unshuffle": True}, r"network\.unshuffle.*True.*no switch"),
        ({"device": "tpu"}, r"device.*'tpu'"),
        ({"device": "cuda:x"}, r"device.*'cuda:x'"),
        ({"device": "cuda:01"}, r"device.*'cuda:01'"),
        ({"device": "cuda:256"}, r"device.*'cuda:256'"),
        ({"precision": "float16"}, r"precision.*'float16'"),
        ({"corruption.block_sizes": ()}, r"corruption\.block_sizes"),
        ({"reconstruction.block": 12, "reconstruction.shifts": 8}, r"reconstruction\.shifts.*8"),
        ({"reconstruction.border_cost": "perhaps"}, r"reconstruction\.border_cost.*perhaps"),
        (
            dict.fromkeys(
                ("score.local_energy", "score.local_colour", "score.residual_pattern", "score.inner_product"), 0
            ),
            r"positive weight",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_value(changes, named):
    with pytest.raises(InvalidConfigError, match=named):
        Config().updated(changes)


@pytest.mark.parametrize("sizes", [(0,), (-8,), (8, 0)])
def test_block_sizes_that_are_no_sizes_are_refused(sizes):
    with pytest.raises(InvalidConfigError, match="block_sizes"):
        Config().updated({"corruption.block_sizes": sizes})


def test_several_problems_are_all_named():
    with pytest.raises(InvalidConfigError) as caught:
        parse_config({"fit": {"steps": -1, "batch": "x"}, "colour": True})
    for named in ("fit.steps", "fit.batch", "colour"):
        assert named in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"colour": True, "working_size": 8},
        {"fit": {"steps": -1, "bach": 4}},
        {"reconstruction": {"block": 12, "shifts": 3}, "network": True},
    ],
)
def test_settings_given_by_name_are_refused_in_the_words_of_those_read_from_a_file(wrong):
    with pytest.raises(InvalidConfigError) as caught:
        Config(**wrong)
    with pytest.raises(InvalidConfigError) as parsed:
        parse_config(wrong)
    assert str(caught.value) == str(parsed.value)
    assert isinstance(caught.value.__cause__, ValidationError)


def test_a_group_of_settings_is_refused_by_its_own_names():
    with pytest.raises(
        InvalidConfigError, match=r"^steps = -1: .*; there is no setting 'bach' \(did you mean batch\?\)"
    ):
        FitConfig(steps=-1, bach=4)


def test_pydantic_itself_still_raises_its_own_error():
    # What Prefect and other models tell of wrong parameters is made of it.
    with pytest.raises(ValidationError, match=r"fit\.steps"):
        Config.model_validate({"fit": {"steps": -1}})


def test_a_configuration_survives_copies_and_pickles():
    changed = Config().updated(OTHER_VALUES)
    assert pickle.loads(pickle.dumps(changed)) == copy.deepcopy(changed) == changed.model_copy() == changed
    assert changed.model_copy(update={"seed": 7}).seed == 7


def test_the_error_is_a_value_error_of_this_project():
    assert issubclass(InvalidConfigError, SsdnetError)
    assert issubclass(InvalidConfigError, ValueError)


def test_updated_changes_what_is_named_and_nothing_else():
    before = Config()
    for path, value in OTHER_VALUES.items():
        changed = before.updated({path: value})
        differing = [
            other for other, now, then in zip(setting_paths(), flat(changed), flat(before), strict=True) if now != then
        ]
        assert differing == [path]
    assert before == Config()


def flat(settings):
    values = []
    for path in setting_paths():
        value = settings
        for part in path.split("."):
            value = getattr(value, part)
        values.append(value)
    return values


def test_strings_from_a_command_line_are_converted():
    changed = Config().updated({"fit.steps": "50", "fit.learning_rate": "1e-3"})
    assert (changed.fit.steps, changed.fit.learning_rate) == (50, 1e-3)


def test_a_configuration_cannot_be_changed_in_place():
    settings = Config()
    with pytest.raises(ValueError, match="frozen"):
        settings.fit.steps = 3


def test_a_configuration_survives_json():
    changed = Config().updated(OTHER_VALUES)
    assert parse_config(json.loads(changed.model_dump_json())) == changed
    assert parse_config({}) == Config()


def test_the_json_schema_builds_and_says_what_each_setting_is():
    assert list(schemas()) == setting_paths()
    assert all(schema["description"] for schema in schemas().values())
    json.dumps(Config.model_json_schema())


def test_the_fingerprint_changes_with_every_setting_but_the_device():
    unchanged = Config().fingerprint()
    prints = {path: Config().updated({path: value}).fingerprint() for path, value in OTHER_VALUES.items()}
    assert prints.pop("device") == unchanged
    assert len({unchanged, *prints.values()}) == len(prints) + 1


def test_the_fingerprint_is_twelve_hexadecimal_digits():
    assert len(Config().fingerprint()) == 12
    int(Config().fingerprint(), 16)


def test_the_fingerprint_changes_with_the_version_of_the_method(monkeypatch):
    before = Config().fingerprint()
    monkeypatch.setattr(config, "METHOD_VERSION", config.METHOD_VERSION + 1)
    assert Config().fingerprint() != before


def test_the_fingerprint_is_the_same_in_every_process_and_however_the_values_were_written():
    code = "from ssdnet_core.config import Config; print(Config().updated({'fit.steps': '50'}).fingerprint())"
    here = Config().updated({"fit.steps": 50}).fingerprint()
    assert {in_another_process(code, PYTHONHASHSEED=seed) for seed in ("1", "2")} == {here}


def test_importing_the_package_and_its_settings_does_not_import_torch():
    code = """
import sys, ssdnet_core, ssdnet_core.config
ssdnet_core.Config.preset("paper").fingerprint()
print([name for name in ("torch", "numpy", "scipy") if name in sys.modules])
ssdnet_core.localize
print("torch" in sys.modules)
"""
    assert in_another_process(code).split("\n") == ["[]", "True"]


def test_the_package_has_what_it_lists_and_nothing_else_by_accident():
    import ssdnet_core

    for name in ssdnet_core.__all__:
        assert getattr(ssdnet_core, name) is not None
    assert set(ssdnet_core.__all__) < set(dir(ssdnet_core))
    with pytest.raises(AttributeError, match="no attribute 'localise'"):
        _ = ssdnet_core.localise


def test_the_presets_are_valid_and_paper_has_the_perceptual_loss():
    assert Config.preset("default") == Config()
    paper = Config.preset("paper")
    assert paper.loss.perceptual_weight > 0
    assert paper.corruption.noise > 0
    assert 0 < paper.corruption.shuffle_ratio < 1
    assert paper.score.inner_product > 0
    for name in PRESETS:
        Config.preset(name)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(InvalidConfigError, match=r"'swift'.*default, fast, paper"):
        Config.preset("swift")
