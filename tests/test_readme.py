"""What README.md shows in Python runs as it stands."""

import re
from pathlib import Path

import pytest

from ssdnet_core import localize
from ssdnet_core.synthetic import sample
from tasks.decoding import decode
from tasks.sample_night import write_sample_night
from tasks.storage import Storage

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_an_image_is_inspected_as_the_readme_shows_and_a_mask_leaves_out_where_it_is_true():
    [shown] = re.findall(r"## In Python\n\n```python\n(.*?)```", README, re.DOTALL)
    assert "True where a pixel does NOT count" in shown
    made = sample("leather", "hole", size=(128, 128))
    names = {"image": made.pixels}
    exec(shown, names)
    assert names["result"].defective
    without = localize(made.pixels, mask=made.truth)
    assert without.score < names["result"].score
    assert not without.labels[made.truth].any()


@pytest.mark.slow
def test_the_images_of_the_trial_are_judged_as_the_readme_shows(tmp_path):
    folder = Storage(str(tmp_path))
    [images] = re.findall(r"ssdnet sample trial --images (\d+)", README)
    write_sample_night(folder, images=int(images))
    rows = re.findall(r"^│ (\S+\.png) +│ (-?[\d.]+) +│ (\w+) +│ (\d+) +│", README, re.MULTILINE)
    assert len(rows) > 5
    for key, score, verdict, regions in rows:
        result = localize(decode(folder.read(key)).pixels)
        assert ("defective" if result.defective else "good", len(result.regions)) == (verdict, int(regions)), key
        assert result.score == pytest.approx(float(score), abs=0.3), key
