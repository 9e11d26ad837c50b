import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.config import Config
from tasks.manifest import Manifest
from tests.tasks.made_manifest import manifest

KEYS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True, max_size=8)


@given(KEYS)
def test_a_manifest_survives_its_json(keys):
    original = manifest(*keys, settings=Config().updated({"fit.steps": 7}))
    assert Manifest.from_json(original.to_json()) == original


def test_a_manifest_with_fields_of_a_later_version_is_read_without_them():
    original = manifest("a.png")
    tree = json.loads(original.to_json())
    later = {**tree, "camera": "left", "entries": [{**entry, "taken": 1.5} for entry in tree["entries"]]}
    assert Manifest.from_json(json.dumps(later).encode()) == original


@given(KEYS, KEYS)
def test_known_images_keep_their_index_and_new_ones_follow(before, after):
    old = manifest(*before)
    merged = old.merged(manifest(*after).entries)
    assert [entry.index for entry in merged.entries] == list(range(len(merged.entries)))
    assert [entry.key for entry in merged.entries[: len(before)]] == before
    assert {entry.key for entry in merged.entries if entry.present} == set(after)


def test_a_replaced_image_keeps_its_index_and_takes_the_new_etag():
    replaced = replace(manifest("a", "b").entries[1], etag="new", index=0)
    merged = manifest("a", "b").merged((replaced,))
    assert (merged.entries[1].index, merged.entries[1].etag) == (1, "new")
    assert not merged.entries[0].present


def test_an_image_that_cannot_be_read_any_more_stays_as_it_was_and_is_replaced_by_another_one():
    before = manifest("a", "b")
    unreadable = tuple(replace(entry, etag="", problem="there is no such file") for entry in before.entries)
    assert before.merged(unreadable) == before
    absent = before.merged(())
    assert absent.merged(unreadable) == before
    never = before.merged(unreadable[:1]).merged(unreadable)
    assert never == before
    founded = replace(before, entries=unreadable)
    assert founded.merged(unreadable) == founded
    assert founded.merged(before.entries) == before


@pytest.mark.parametrize(
    ("etag", "mask", "kept"),
    [
        ("1+", "a.png", True),
        ("+2", "a.png", True),
        ("+", "a.png", True),
        ("", "", True),
        ("9+", "a.png", False),  # The image was replaced as well.
        ("1+", "a.tif", False),  # It has another mask.
        ("1", "", False),  # It has none any more.
        ("1+9", "a.png", False),
    ],
)
def test_an_image_whose_mask_cannot_be_read_any_more_stays_as_it_was_unless_more_has_changed(etag, mask, kept):
    [entry] = manifest("a").entries
    before = replace(manifest("a"), entries=(replace(entry, etag="1+2", mask="a.png"),))
    found = replace(entry, etag=etag, mask=mask)
    assert before.merged((found,)).entries == (before.entries if kept else (found,))


def test_an_image_that_had_no_mask_is_not_kept_without_the_one_that_it_has_now():
    [entry] = manifest("a").entries
    found = replace(entry, etag=f"{entry.etag}+", mask="a.png")
    assert manifest("a").merged((found,)).entries == (found,)
