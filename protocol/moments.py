"""Moments as text (RFC 3339) and as seconds since 1970, by arithmetic: nothing here has a clock.

Years 1970 to 9999, whole seconds, proleptic Gregorian calendar without leap seconds, as in POSIX.
The days of a date follow H. Hinnant, "chrono-compatible low-level date algorithms" (2013).
"""

import re

from protocol.errors import RemoteProtocolError

LAST = 253_402_300_799
"""9999-12-31T23:59:59Z."""

_MOMENT = re.compile(
    r"\A([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))\Z"
)
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def seconds(text: str) -> int:
    """The moment in seconds since 1970, fractions cut off; RemoteProtocolError if it is none."""
    found = _MOMENT.match(text)
    if found is None:
        raise RemoteProtocolError(
            f"{text!r:.80} is no moment with its time zone; 2027-01-01T00:00:00Z would be right"
        )
    year, month, day, hour, minute, second = (int(found[part]) for part in range(1, 7))
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    real_day = 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1] + leap
    if not (real_day and hour < 24 and minute < 60 and second < 60):
        raise RemoteProtocolError(f"{text!r:.80} is on no calendar")
    ahead = 60 * (60 * int(found[9]) + int(found[10])) if found[8] else 0
    behind = -ahead if found[8] == "-" else ahead
    total = 86_400 * _day_number(year, month, day) + 3600 * hour + 60 * minute + second - behind
    if not 0 <= total <= LAST:
        raise RemoteProtocolError(f"{text!r:.80} is not between 1970 and 9999")
    return total


def text(moment: int) -> str:
    """The moment as text in UTC; RemoteProtocolError unless 0 <= `moment` <= LAST."""
    if not 0 <= moment <= LAST:
        raise RemoteProtocolError(f"{moment} is no moment between 1970 and 9999")
    days, rest = divmod(moment, 86_400)
    year, month, day = _date(days)
    hour, minute = rest // 3600, rest // 60 % 60
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{rest % 60:02}Z"


def _day_number(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01. The year begins in March, so that a leap day is its last."""
    march_year = year - (month <= 2)
    era, of_era = divmod(march_year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: int) -> tuple[int, int, int]:
    era, of_era = divmod(days + 719_468, 146_097)
    years = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return era * 400 + years + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
