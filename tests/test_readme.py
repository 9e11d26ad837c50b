"""What README.md shows in Python runs as it stands."""

import re
from pathlib import Path

from ssdnet_core import localize
from ssdnet_core.synthetic import sample

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
