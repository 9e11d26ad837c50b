"""What is stored as JSON is read as it was, and what is not as it should be is told."""

import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import date

import pytest

from ssdnet_core.metrics import Metric
from tasks.manifest import ImageEntry, Manifest
from tasks.night_figures import NightFigures
from tasks.records import ImageRecord
from tasks.seal import Seal
from tasks.stored_json import StoredJsonError, from_json, null_for_nan, to_json
from tests.tasks.made_nights import figures
from tests.tasks.test_records import DONE
from tests.tasks.test_seal import MANIFEST

SEAL = Seal(batch="n", fingerprint="f", images=1, inspected=1, failed=0, defective=0, digest="d")


@dataclass(frozen=True)
class Part:
    size: int
    corner: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    value: float = 0.0
    day: date | None = None
    known: bool = False


WHOLE = Whole(
    name="\u00fc\u2603", parts=(Part(1, corner=(0.1, 2e-7)), Part(2)), value=1e16, day=date(2026, 9, 1), known=True
)


@pytest.mark.parametrize("indent", [None, 1])
def test_what_is_written_is_read_as_it_was(indent):
    assert from_json(Whole, to_json(WHOLE, indent=indent)) == WHOLE


def test_numbers_that_are_none_are_kept():
    assert math.isnan(from_json(Whole, to_json(replace(WHOLE, value=math.nan))).value)
    assert from_json(Whole, to_json(replace(WHOLE, value=-math.inf))).value == -math.inf


def test_fields_that_a_version_before_did_not_have_get_their_defaults():
    assert from_json(Whole, b'{"name": "a", "parts": [{"size": 3}]}') == Whole("a", parts=(Part(3),))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        (b"[]", r"the file = \[\]: Input should be an object"),
        (b"{}", "name is missing; parts is missing$"),
        (b'{"name": 3, "parts": []}', "^name = 3: Input should be a valid string$"),
        (b'{"name": "a", "parts": [{"size": 1}, {"size": "1"}]}', r"^parts\.1\.size = '1': .* valid integer$"),
        (b'{"name": "a", "parts": [{"size": 1.0}]}', r"^parts\.0\.size = 1\.0: .* valid integer$"),
        (b'{"name": "a", "parts": [{"size": 1, "corner": [1.5]}]}', r"^parts\.0\.corner\.1 is missing$"),
        (b'{"name": "a", "parts": [], "known": 1}', "^known = 1: .* valid boolean$"),
        (b'{"name": "a", "parts": [], "day": "yesterday"}', "^day = 'yesterday': .* valid date"),
        (b'{"name": "a", "parts": [], "weight": 1}', "^weight is no field that this version knows$"),
        (b'{"name": "a", "parts": [{}, {}, {}, {}, {}]}', r"parts\.2\.size is missing; and 2 more$"),
    ],
)
def test_what_is_wrong_is_told_by_field_and_nothing_is_converted(content, reason):
    with pytest.raises(StoredJsonError, match=reason):
        from_json(Whole, content)


def test_a_value_that_is_long_is_told_in_short():
    with pytest.raises(StoredJsonError) as raised:
        from_json(Whole, json.dumps({"name": ["a"] * 10_000, "parts": []}).encode())
    assert len(str(raised.value)) < 200


def test_other_fields_are_left_alone_where_they_are_expected():
    assert from_json(Part, b'{"size": 1, "weight": 2}', others=True) == Part(1)
    with pytest.raises(StoredJsonError, match=r"^size = True"):
        from_json(Part, b'{"size": true, "weight": 2}', others=True)


def test_what_is_undefined_is_null_for_other_programs_and_nan_again_when_it_is_read_as_a_metric():
    plain = null_for_nan({"rows": ({"value": math.nan, "name": "a"}, 0.5), "count": 0, "known": False})
    assert json.dumps(plain) == '{"rows": [{"value": null, "name": "a"}, 0.5], "count": 0, "known": false}'
    assert [repr(value) for value in from_json(tuple[Metric, ...], b"[null, 0.5]")] == ["nan", "0.5"]
    with pytest.raises(StoredJsonError, match=r"^0 = '0\.5'"):
        from_json(tuple[Metric, ...], b'["0.5"]')
    with pytest.raises(StoredJsonError, match=r"^0 = None"):
        from_json(tuple[float, ...], b"[null]")


@pytest.mark.parametrize("record", [DONE, replace(DONE, score=math.inf, warnings=("\u00fc", "b"), regions=())])
def test_records_are_written_as_they_have_always_been(record):
    assert to_json(record) == json.dumps(asdict(record)).encode()
    assert from_json(ImageRecord, json.dumps(asdict(record)).encode()) == record


def test_seals_and_nights_are_written_as_they_have_always_been():
    assert to_json(SEAL, indent=1).decode() == json.dumps(asdict(SEAL), indent=1) + "\n"
    night = figures(3)
    tree = {**asdict(night), "day": night.day.isoformat()}
    assert to_json(night, indent=1).decode() == json.dumps(tree, indent=1) + "\n"
    assert from_json(NightFigures, json.dumps(tree).encode()) == night


def test_a_manifest_has_a_line_for_each_image_and_is_of_the_version_that_wrote_it():
    content = MANIFEST.to_json()
    lines = [line.strip().removesuffix(",") for line in content.decode().splitlines()]
    assert all(json.dumps(asdict(entry)) in lines for entry in MANIFEST.entries)
    tree = json.loads(content)
    del tree["fingerprint"]
    with pytest.raises(StoredJsonError, match=r"^fingerprint is missing$"):
        Manifest.from_json(json.dumps(tree).encode())
    assert Manifest.from_json(json.dumps({**tree, "fingerprint": "f"}).encode()).fingerprint == "f"


def test_a_manifest_with_an_image_of_the_wrong_type_says_which():
    entry = {**asdict(ImageEntry(index=0, key="a.png", etag="e", size=1)), "height": "64"}
    tree = {**json.loads(MANIFEST.to_json()), "entries": [entry]}
    with pytest.raises(StoredJsonError, match=r"^entries\.0\.height = '64'"):
        Manifest.from_json(json.dumps(tree).encode())
