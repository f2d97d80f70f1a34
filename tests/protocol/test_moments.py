"""Moments as text and as seconds, compared with Python's own calendar."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import moments
from protocol.errors import RemoteProtocolError


@given(st.integers(0, moments.LAST))
def test_text_is_that_of_the_calendar_and_comes_back(moment: int) -> None:
    text = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if moment >= datetime(1000, 1, 1, tzinfo=UTC).timestamp():
        assert moments.text(moment) == text
    assert moments.seconds(moments.text(moment)) == moment


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9998, 12, 31)),  # noqa: DTZ001
    st.integers(-23 * 60, 23 * 60),
)
def test_a_zone_counts(moment: datetime, minutes: int) -> None:
    placed = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)), microsecond=0)
    assert moments.seconds(placed.isoformat()) == int(placed.timestamp())


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2027-01-01", "2027-01-01T00:00:00", "2027-02-29T00:00:00Z",
     "2027-13-01T00:00:00Z", "2027-00-01T00:00:00Z", "2027-01-00T00:00:00Z", "1969-12-31T23:59:59Z",
     "2027-01-01T24:00:00Z", "9999-12-31T23:59:59-01:00", "\uff12027-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        moments.seconds(text)


@pytest.mark.parametrize("moment", [-1, moments.LAST + 1])
def test_there_is_no_text_for_other_times(moment: int) -> None:
    with pytest.raises(RemoteProtocolError):
        moments.text(moment)
