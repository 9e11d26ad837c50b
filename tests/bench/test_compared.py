import argparse
import json
import math
from dataclasses import replace

import pytest


@pytest.fixture
def finding():
    from labelled import Finding

    return Finding(
        key="a/test/hole/0.png",
        category="a",
        truly_defective=True,
        auroc=0.9,
        average_precision=0.5,
        score=2.0,
        defective=True,
        warned=False,
        seconds=1.0,
    )


def test_accuracy_is_the_mean_of_the_categories_however_many_images_each_has(finding):
    from labelled import accuracy

    others = [replace(finding, key=f"b/{n}", category="b", auroc=0.6, average_precision=0.1) for n in range(3)]
    good = replace(finding, key="a/good", truly_defective=False, auroc=math.nan, average_precision=math.nan)
    assert accuracy([finding, good, *others]) == pytest.approx((0.75, 0.3))


def test_what_could_be_inspected_in_one_run_alone_is_not_compared(finding):
    from compared import difference

    hard = replace(finding, key="a/test/hole/1.png", auroc=0.5, average_precision=0.1)
    better = replace(finding, auroc=0.95, average_precision=0.7)
    assert difference([better], [finding, hard]) == pytest.approx((0.05, 0.2))
    assert difference([better, hard], [finding]) == pytest.approx((0.05, 0.2))


@pytest.mark.parametrize(
    ("benchmark", "names", "text"),
    [
        ("stress", "CONDITIONS", "noise,missing"),
        ("ablation", "VARIANTS", "shuffling,noise"),
        ("ablation", "VARIANTS", "as built,half the steps"),
    ],
)
def test_a_name_may_be_given_by_a_part_that_no_other_has(benchmark, names, text):
    from compared import chosen
    from compared import names as split

    known = getattr(pytest.importorskip(benchmark), names)
    found = chosen(split(text), known, parser=argparse.ArgumentParser())
    assert len(found) == 2
    assert all(any(part in name for part in split(text)) for name in found)


@pytest.mark.parametrize(("text", "said"), [("vignette", "a part of several"), ("fog", "'fog' is none")])
def test_a_name_of_none_or_of_several_is_wrong_usage(capsys, text, said):
    from compared import chosen
    from stress import CONDITIONS

    with pytest.raises(SystemExit) as ended:
        chosen([text], CONDITIONS, parser=argparse.ArgumentParser())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_is_made_once_for_its_settings_and_a_damaged_file_is_told(tmp_path, finding):
    from compared import DamagedRunsError, findings_of, made_or_kept

    store, made = tmp_path / "runs.json", []

    def runs(*only, **settings):
        def make(name):
            made.append(name)
            return [finding]

        return made_or_kept(store, settings, only=only, make=make)

    assert runs("clean", clean="s", noise="s")["clean"]["settings"] == "s"
    assert [*runs("noise", "clean", clean="s", noise="s")] == ["clean", "noise"]
    assert made == ["clean", "noise"]
    assert [*runs("noise", clean="t", noise="t")] == ["noise"], "what was made for other settings is not comparable"
    assert findings_of(runs(noise="t")["noise"]) == [finding]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.json"]
    for damaged in (store.read_text()[:-9], json.dumps({"conditions": {}}), "[]"):
        store.write_text(damaged)
        with pytest.raises(DamagedRunsError, match=rf"{store} .*: delete it"):
            runs(clean="s")
