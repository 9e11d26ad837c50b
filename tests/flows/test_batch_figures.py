from dataclasses import replace

from flows.batch_figures import failed, figures, largest_at
from flows.run_page import plain, summary_of
from ssdnet_core.config import Config
from ssdnet_core.regions import Region
from tasks.batch_results import BatchResults
from tasks.settings_in_words import settings_of


def changed(outcome, **changes):
    """Return the outcome with changes of the record of good.png."""
    records = {**outcome.results.records, 2: replace(outcome.results.records[2], **changes)}
    return replace(outcome, results=BatchResults(outcome.results.manifest, records))


def test_images_that_are_gone_are_in_no_figure(outcome):
    assert [record.key for record in outcome.results.present] == ["good.png", "unread.png"]
    assert [record.key for record in failed(outcome)] == ["unread.png"]
    assert figures(outcome)["images"] == "2, done before"
    assert figures(outcome)["not inspected"] == "1"


def test_how_many_images_this_run_tried_is_told_in_words_where_it_was_all_or_none(outcome):
    for fitted, told in ((0, "2, done before"), (1, "2, 1 of them tried by this run"), (2, "2, tried by this run")):
        assert figures(replace(outcome, fitted=fitted))["images"] == told


def test_one_region_is_no_regions(outcome):
    region = Region(top=0, left=0, bottom=9, right=9, area=81, peak=3.0, centroid=(4.4, 7.6))
    assert figures(changed(outcome, regions=(region,)))["defective"].endswith(", 1 region")
    assert figures(changed(outcome, regions=(region, region)))["defective"].endswith(", 2 regions")


def test_masks_that_came_or_went_since_the_run_before_are_told(outcome):
    assert "other masks" not in figures(outcome)
    gone = figures(replace(outcome, former_masks="/masks"))["other masks"]
    assert gone == "the run before had /masks, this one none: images with others are inspected anew"
    manifest = replace(outcome.results.manifest, masks="/masks")
    came = replace(outcome, results=BatchResults(manifest, outcome.results.records), former_masks="")
    assert figures(came)["other masks"].startswith("the run before had none, this one /masks: ")


def test_what_there_is_nothing_of_has_no_line(outcome):
    assert list(figures(outcome)) == ["images", "defective", "not inspected", "CPU time"]


def test_the_time_is_told_an_image_and_the_gpu_only_where_one_fitted(outcome):
    assert figures(changed(outcome, seconds=2.5))["CPU time"] == "2.5 s, 2.50 s an image"
    on_gpu = changed(outcome, seconds=2.5, device="cuda:0")
    assert figures(on_gpu)["CPU time"] == "2.5 s, 2.50 s an image, 100 % of the images on a GPU"


def test_the_gpus_share_is_that_of_the_images_that_were_inspected(outcome):
    second = replace(outcome.results.records[2], index=3, key="unread.png", device="cpu")
    results = BatchResults(outcome.results.manifest, {**outcome.results.records, 3: second})
    both = changed(replace(outcome, results=results), device="cuda:0")
    assert figures(both)["CPU time"].endswith(", 50 % of the images on a GPU")


def test_the_largest_region_is_told_as_x_and_y(outcome):
    assert largest_at(outcome.results.records[2]) == ""
    region = Region(top=0, left=0, bottom=9, right=9, area=81, peak=3.0, centroid=(4.4, 7.6))
    assert largest_at(replace(outcome.results.records[2], regions=(region,))) == "8, 4"


def test_the_page_of_a_run_has_the_figures_that_the_terminal_has(outcome):
    page = summary_of(changed(outcome, warnings=("dark",)))
    for name, value in figures(changed(outcome, warnings=("dark",))).items():
        assert f"| {name} | {value.replace('(', chr(92) + '(').replace(')', chr(92) + ')')} |" in page


def test_the_page_of_a_run_tells_its_settings_in_words(outcome):
    manifest = outcome.results.manifest
    fast = replace(manifest, config=Config.preset("fast"), fingerprint=Config.preset("fast").fingerprint())
    for settings, words in ((manifest, settings_of(manifest)), (fast, "preset fast")):
        page = summary_of(replace(outcome, results=BatchResults(settings, outcome.results.records)))
        assert f"| settings | {plain(words)} \\(fingerprint {outcome.seal.fingerprint}\\) |" in page
