"""What the pages that lead to the galleries link to."""

import re

import pytest

from infra.gallery_pages import list_page
from tasks.storage import Storage
from tasks.storage_answers import MissingObjectError


def results_with(folder, *keys):
    results = Storage(str(folder))
    for key in keys:
        results.write(key, b"content")
    return results


def links(page):
    return re.findall('href="(.*?)"', page)


def test_the_front_page_links_to_trends_and_finished_batches_only_with_names_escaped(tmp_path):
    page = list_page(
        results_with(
            tmp_path,
            "night <1>/report/index.html",
            "night <1>/images.csv",
            "trends/line-1.html",
            "trends/line-1.parquet",
            "unfinished/manifest.json",
            ".hidden/report/index.html",
        )
    )
    assert '<a href="/night%20%3C1%3E/report/index.html">night &lt;1&gt;</a>' in page
    assert '<a href="/trends/line-1.html">line-1</a>' in page
    assert len(links(page)) == 2


def test_before_the_first_batch_the_front_page_says_so(tmp_path):
    page = list_page(Storage(str(tmp_path / "results")))
    assert "No gallery yet" in page
    assert "There is no such folder yet" in page


def test_batches_in_folders_are_reached_from_page_to_page_and_a_batch_is_no_folder_of_them(tmp_path):
    results = results_with(
        tmp_path, "plant 2/line-1/a/report/index.html", "plant 2/line-1/a/manifest.json", "b/manifest.json"
    )
    (tmp_path / "plant 2" / "out").symlink_to(tmp_path.parent)
    assert links(list_page(results)) == ["/plant%202/"]
    assert '<a href="/plant%202/line-1/">line-1</a>' in list_page(results, "plant 2")
    assert links(list_page(results, "plant 2/line-1")) == ["../", "/plant%202/line-1/a/report/index.html"]
    for key in ("b", "plant 2/line-1/a", "plant 2/line-1/a/report", "plant 2/out", "nowhere"):
        with pytest.raises(MissingObjectError, match=key):
            list_page(results, key)
