"""What is drawn of a line's nights, read from the SVG."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tasks.trend_plots import BAND, COLOURS, FLAG, GRID, counts, defect_rates, metrics, scores
from tasks.trends import compare_nights
from tests.tasks.made_nights import figures, nights

NAMES = {"svg": "http://www.w3.org/2000/svg"}


def styled(drawing, element, **wanted):
    """Return the elements of a kind whose style has these values."""
    found = ElementTree.fromstring(drawing).iterfind(f".//svg:{element}", NAMES)
    style = [f"{name.replace('_', '-')}: {value}" for name, value in wanted.items()]
    return [one for one in found if all(each in one.get("style", "").split("; ") for each in style)]


def marked(drawing, colour):
    """Return where the markers of a colour stand."""
    found = styled(drawing, "use", fill=colour, stroke=colour)
    return [(float(one.get("x")), float(one.get("y"))) for one in found]


def corners(path):
    """Return the corners of a shape."""
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] (\S+) (\S+)", path.get("d"))]


@pytest.fixture
def rows():
    """Nights of which the last two are flagged, one for its defect rate and one for its scores."""
    return compare_nights([*nights(20), figures(20, defective=150), figures(21, median=3.0)])


def test_as_many_nights_are_flagged_as_jumped_or_drifted(rows):
    assert [(row.jump, row.drift) for row in rows][-3:] == [(False, False), (True, False), (False, True)]
    for draw, flagged in ((defect_rates, "jump"), (scores, "drift")):
        drawing = draw(rows)
        assert len(marked(drawing, FLAG)) == sum(getattr(row, flagged) for row in rows) == 1
        # On the line, and a night further to the right than that of the other flag.
        assert marked(drawing, FLAG)[0] in marked(drawing, COLOURS[0])
    [[jumped], [drifted]] = marked(defect_rates(rows), FLAG), marked(scores(rows), FLAG)
    assert jumped[0] < drifted[0]


@pytest.mark.parametrize("highest", [0.4, 1.7, 9.0, 60.0])
def test_the_scores_axis_names_the_default_alarm_level_however_low_the_scores_are(highest):
    drawing = scores(compare_nights([replace(night, score_q99=highest) for night in nights(20)]))
    named = {text.text for text in styled(drawing, "text")}
    assert {"0", "1", "score"} <= named
    assert not [text for text in named if re.fullmatch(r"-?\d+\.\d+", text)]


def test_the_ordinary_is_one_band_for_all_nights_under_the_same_settings():
    first, second = nights(20), [replace(night, fingerprint="g") for night in nights(20)]
    later = [replace(night, day=figures(20 + number).day) for number, night in enumerate(second)]
    assert len(styled(defect_rates(compare_nights(first)), "use", fill=BAND)) == 1
    assert len(styled(defect_rates(compare_nights([*first, *later])), "use", fill=BAND)) == 2


def of_colour(drawing, colour):
    """Return the lines of a colour, each as its corners; a mark that stands alone has a line without a length."""
    return [corners(path) for path in styled(drawing, "path", stroke=colour) if "fill: none" in path.get("style")]


def test_a_missing_night_parts_the_line_and_the_band_of_the_ordinary():
    there = [night for number, night in enumerate(nights(30)) if number not in (20, 22)]
    whole, parted = (defect_rates(compare_nights(some)) for some in (nights(30), there))
    assert [len(line) for line in of_colour(whole, COLOURS[0])] == [30]
    assert [len(line) for line in of_colour(parted, COLOURS[0])] == [20, 1, 7]
    assert [len(styled(drawing, "use", fill=BAND)) for drawing in (whole, parted)] == [1, 3]


def test_a_night_alone_among_many_has_a_mark():
    there = [night for number, night in enumerate(nights(90)) if number not in (80, 82)]
    assert len(marked(defect_rates(compare_nights(nights(90))), COLOURS[0])) == 0
    assert len(marked(defect_rates(compare_nights(there)), COLOURS[0])) == 1


@pytest.mark.parametrize("draw", [defect_rates, scores, lambda rows: metrics(rows, ["auroc"])])
def test_nights_under_earlier_settings_are_hollow_and_joined_to_no_later_one(draw):
    known = [replace(night, auroc=0.9) for night in nights(20)]
    rows = compare_nights(
        [replace(night, fingerprint="f" if number < 15 else "g") for number, night in enumerate(known)]
    )
    drawing = draw(rows)
    hollow = styled(drawing, "use", fill="#ffffff", stroke=COLOURS[0])
    assert len(hollow) == 15
    own = COLOURS[0] if draw not in (defect_rates, scores) else COLOURS[1]
    filled = len(marked(drawing, own))
    assert filled == (5 + 1 if own == COLOURS[0] else 5), "and the metric's mark in the legend"
    lengths = [len(line) for colour in {COLOURS[0], own} for line in of_colour(drawing, colour)]
    assert {5, 15} <= set(lengths)
    assert 20 not in lengths


def test_of_many_nights_those_under_earlier_settings_have_dotted_lines():
    drawing = defect_rates(
        compare_nights(
            [replace(night, fingerprint="f" if number < 70 else "g") for number, night in enumerate(nights(140))]
        )
    )
    assert not styled(drawing, "use", stroke=COLOURS[0])
    dotted = [
        ["stroke-dasharray" in line.get("style") for line in styled(drawing, "path", stroke=colour)]
        for colour in COLOURS[:2]
    ]
    assert dotted == [[True], [False]]


def test_a_night_without_a_value_adds_no_point(rows):
    empty = compare_nights([*(row.figures for row in rows[:5]), figures(5, defective=0, inspected=0)])
    assert len(marked(defect_rates(empty), COLOURS[0])) == 5
    known = [replace(row.figures, auroc=0.9 if number % 2 else None) for number, row in enumerate(rows)]
    assert len(marked(metrics(compare_nights(known), ["auroc"]), COLOURS[0])) == 11 + 1  # Its mark in the legend.


def test_failed_images_stand_on_the_inspected_ones_as_high_as_they_are_many():
    night = replace(figures(0), images=40, inspected=30, failed=10)
    drawing = counts(compare_nights([night, replace(figures(1), inspected=40, failed=0)]))
    inspected, failed = styled(drawing, "path", fill="#b9c4cd")[0], styled(drawing, "path", fill=FLAG)[0]
    below, above = ([y for _, y in corners(bar)] for bar in (inspected, failed))
    assert min(below) == max(above), "SVG counts downwards"
    assert (max(above) - min(above)) / (max(below) - min(below)) == pytest.approx(1 / 3, abs=1e-3)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_no_night_is_cut_off_at_the_ends_of_the_axis(count):
    drawing = counts(compare_nights(nights(count)))
    [line, *_] = styled(drawing, "path", stroke=GRID)
    left, right = (x for x, _ in corners(line))
    bars = [[x for x, _ in corners(bar)] for bar in styled(drawing, "path", fill="#b9c4cd")]
    assert len(bars) == count
    assert left < min(map(min, bars))
    assert max(map(max, bars)) < right
