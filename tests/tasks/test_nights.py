from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssdnet_core.errors import InvalidConfigError
from tasks.batch import folder_names
from tasks.discovery import NothingToInspectError
from tasks.nights import Night, NoSuchLineError, count_images, day_before, days_on_storage, night_of
from tasks.storage_answers import StorageError

NIGHT = Night("line-1", date(2026, 11, 1))
LINES = st.from_regex(r"[A-Za-z0-9_=][A-Za-z0-9._=~-]{0,20}", fullmatch=True)


@pytest.fixture
def images(tmp_path):
    """Two lines; the first has an ordinary night, one that was begun, and one of another format."""
    for path in ("line-1/2026-11-01/a.png", "line-1/2026-11-01/b.PNG", "line-1/2026-11-03/a.raw", "line-2/x/a.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "line-1" / "2026-11-02").mkdir()
    return str(tmp_path)


def counted(images, day):
    return count_images(images, Night("line-1", date(2026, 11, day)), days=days_on_storage(images, "line-1"))


def test_a_night_lies_below_its_line_and_names_its_batch():
    assert NIGHT.below("s3://images/").address == "s3://images/line-1/2026-11-01"
    assert (NIGHT.batch, str(NIGHT)) == ("line-1-2026-11-01", "line-1 2026-11-01")


def test_the_images_of_a_night_are_counted(images):
    assert counted(images, 1) == 2


@pytest.mark.parametrize("day", [2, 4])
def test_a_night_without_a_file_has_no_images(images, day):
    assert counted(images, day) == 0


def test_a_night_with_other_files_only_is_not_taken_for_a_quiet_one(images):
    with pytest.raises(NothingToInspectError, match="1 other file "):
        counted(images, 3)


def test_a_misspelt_line_is_not_taken_for_a_quiet_one(images):
    with pytest.raises(NoSuchLineError, match=r"no line 'lime-1' in .*: there are line-1, line-2"):
        days_on_storage(images, "lime-1")


def test_misspelt_images_are_not_taken_for_quiet_lines(images):
    with pytest.raises(StorageError, match="images-of-old"):
        days_on_storage(f"{images}/images-of-old", "line-1")


@given(LINES, st.dates(date(1000, 1, 1)))
def test_a_batch_tells_its_night_under_all_settings(line, day):
    night = Night(line, day)
    assert [night_of(name) for name in folder_names(night.batch, "0123456789ab")] == [night, night]


@pytest.mark.parametrize("name", ["carpet", "2026-11-22", "-2026-11-22", "line-1-2026-13-40", "line-1-2026-11-22-b"])
def test_other_batches_are_no_night(name):
    assert night_of(name) is None


@pytest.mark.parametrize(
    ("start", "night"),
    [
        (datetime(2026, 11, 23, 2, 0, tzinfo=UTC), date(2026, 11, 22)),  # 03:00 in Madrid
        (datetime(2026, 11, 22, 23, 30, tzinfo=UTC), date(2026, 11, 22)),  # 00:30 in Madrid, on the 23rd
        (datetime(2026, 3, 29, 1, 0, tzinfo=UTC), date(2026, 3, 28)),  # 03:00, an hour after the clocks went on
        (datetime(2026, 10, 25, 2, 0, tzinfo=UTC), date(2026, 10, 24)),  # 03:00, after the clocks went back
    ],
)
def test_the_night_is_the_day_before_the_start_in_the_sites_own_zone(start, night):
    assert day_before(start, "Europe/Madrid") == night


@given(
    st.dates(date(2020, 1, 1), date(2035, 1, 1)), st.sampled_from(["Europe/Madrid", "America/New_York", "Asia/Tokyo"])
)
def test_a_start_at_three_in_the_morning_always_gives_the_day_before(day, zone):
    start = datetime(day.year, day.month, day.day, 3, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert day_before(start, zone) == day - timedelta(days=1)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "../Madrid", "/etc/localtime"])
def test_an_unknown_time_zone_is_named(zone):
    with pytest.raises(InvalidConfigError, match=f"no time zone '{zone}'"):
        day_before(datetime.now(UTC), zone)
