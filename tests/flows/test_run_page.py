import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.run_page import artifact_key, plain, url_of
from tasks.storage import Storage


@pytest.mark.parametrize(
    ("batch", "key"),
    [
        ("line-1-2026-11-22", "line-1"),
        ("line-1-2026-11-22~0a1b2c3d", "line-1"),
        ("Line_1-2026-11-22", "line-1"),
        ("carpet-test", "carpet-test"),
        ("...", "batch"),
    ],
)
def test_the_nights_of_a_line_are_versions_of_one_artifact(batch, key):
    assert artifact_key(batch) == key


@given(st.text(max_size=40))
def test_artifact_keys_have_only_what_prefect_allows(name):
    key = artifact_key(name)
    assert key
    assert all(character in "abcdefghijklmnopqrstuvwxyz0123456789-" for character in key)


def test_addresses_become_urls_where_the_gallery_is_served(monkeypatch):
    folder = Storage("s3://results/line-1-2026-11-22~0a1b")
    monkeypatch.delenv("SSDNET_GALLERY_URL", raising=False)
    assert url_of(folder, "report/index.html") is None
    monkeypatch.setenv("SSDNET_GALLERY_URL", "http://host:8088/")
    assert url_of(folder, "report/a b.html") == "http://host:8088/line-1-2026-11-22~0a1b/report/a%20b.html"


@pytest.mark.parametrize("name", ["a|b.png", "[x](http://evil)", "<script>", "a\nb", "*b*", "`c`", "&lt;"])
def test_a_file_name_cannot_become_markup(name):
    shown = plain(name)
    assert "\n" not in shown
    assert "<" not in shown
    for position, character in enumerate(shown):
        if character in "|[]()*`":
            assert shown[position - 1] == "\\", shown
