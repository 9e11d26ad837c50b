import re
from dataclasses import replace

from tasks.departure import MOST_NIGHTS_COMPARED
from tasks.trends import compare_nights, remarks, settings_names
from tests.tasks.made_nights import figures, nights


def test_the_first_week_flags_nothing():
    rows = compare_nights([*nights(6), figures(6, defective=300, median=4.0)])
    assert not any(row.jump or row.drift for row in rows)
    rows = compare_nights([*nights(7), figures(7, defective=300, median=4.0)])
    assert (rows[-1].jump, rows[-1].drift) == (True, True)


def test_a_jump_says_what_was_to_be_expected():
    [remark] = remarks(compare_nights([*nights(10), figures(10, defective=84)])[-1])
    lowest, highest = map(float, re.findall(r"\d+\.\d", remark)[1:])
    assert remark.startswith("defect rate 20.0 % (expected")
    assert lowest < 2.9 < highest < 20


def test_a_drift_says_of_each_quantile_what_was_to_be_expected():
    said = remarks(compare_nights([*nights(10), figures(10, median=4.0)])[-1])
    assert [remark.partition(" % quantile of the scores ")[0] for remark in said] == ["25", "50", "75"]
    assert said[1].startswith("50 % quantile of the scores 4.00 (expected ")
    lowest, highest = map(float, re.findall(r"-?\d+\.\d+", said[1])[1:])
    assert lowest < -0.3 < highest < 4


def test_a_fall_is_as_remarkable_as_a_rise():
    before = [replace(night, defective=200 + night.defective) for night in nights(10)]
    assert compare_nights([*before, figures(10, defective=0)])[-1].jump


def test_nights_of_more_than_four_weeks_ago_are_no_yardstick():
    before = [replace(night, defective=200 + night.defective) for night in nights(60)]
    month = [figures(60 + number, defective=10 + number % 5) for number in range(MOST_NIGHTS_COMPARED)]
    assert compare_nights([*before, *month, figures(60 + MOST_NIGHTS_COMPARED, defective=200)])[-1].jump


def test_a_night_of_few_images_is_granted_what_chance_does_to_its_scores():
    few, many = (figures(10, defective=0, inspected=count, median=0.1) for count in (4, 420))
    assert not compare_nights([*nights(10), few])[-1].drift
    assert compare_nights([*nights(10), many])[-1].drift


def test_one_night_of_widely_scattered_scores_lets_no_later_drift_pass():
    scattered = replace(figures(9), score_q75=400.0)
    assert compare_nights([*nights(9), scattered, figures(10, median=0.6)])[-1].scores["score_q50"].flagged


def test_settings_are_named_in_words_as_long_as_one_night_has_them():
    rows = compare_nights([replace(figures(0), settings="preset fast"), figures(1)])
    assert settings_names(rows) == {"f": "preset fast (f)"}


def test_changed_settings_begin_anew():
    changed = [replace(night, fingerprint="other", defective=200) for night in nights(14)[7:]]
    rows = compare_nights([*nights(7), *changed])
    assert not any(row.jump or row.drift for row in rows)
    assert rows[-1].rate is None


def test_a_night_without_images_is_no_yardstick_and_no_alarm():
    empty = [figures(number, defective=0, inspected=0) for number in range(7)]
    rows = compare_nights([*empty, figures(7, defective=400)])
    assert not any(row.jump for row in rows)


def test_images_that_failed_count_neither_in_a_rate_nor_in_what_chance_does():
    def with_failures(figures):
        return replace(figures, images=10 * figures.images, failed=9 * figures.images)

    plain, failed = (compare_nights([change(n) for n in nights(11)])[-1] for change in (lambda n: n, with_failures))
    assert (failed.rate, failed.scores) == (plain.rate, plain.scores)
