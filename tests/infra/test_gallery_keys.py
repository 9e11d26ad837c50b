from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from infra.gallery_keys import page_key


@given(
    st.lists(st.sampled_from(["..", ".", "", "a", "%2e", "%2e%2e", "%2f", "/", "\\", "%5c", ".html", "%00", "b.html"]))
)
def test_no_path_leaves_the_results(pieces):
    key = page_key("/" + "".join(pieces))
    if key is not None:
        parts = key.split("/")
        assert not {"..", ".", ""} & set(parts)
        assert Path("/results", key).resolve().is_relative_to("/results")
