"""Times in short messages: time stamps and validity periods (TS 23.040 sections 9.2.3.11 to 9.2.3.13)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from labkit.errors import SmsError

_QUARTER_MINUTES = 15


def to_time_stamp(moment: datetime) -> bytes:
    """Write a time as seven octets of swapped digits; without a time zone it is taken as UTC."""
    offset = moment.utcoffset() or timedelta()
    quarters = round(offset.total_seconds() / 60 / _QUARTER_MINUTES)
    zone = _swap(abs(quarters)) | (0x08 if quarters < 0 else 0)
    parts = (moment.year % 100, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    return bytes((*(_swap(part) for part in parts), zone))


def from_time_stamp(raw: bytes) -> datetime | None:
    """Read seven octets; None where they are no time, as a clock that was never set sends. Years begin with 1990."""
    if any(octet >> 4 > 9 or octet & 0x0F > 9 for octet in raw[:6]):
        return None
    year, month, day, hour, minute, second = (_digits(octet) for octet in raw[:6])
    quarters = (raw[6] & 0x07) * 10 + (raw[6] >> 4)
    zone = timezone(timedelta(minutes=quarters * _QUARTER_MINUTES) * (-1 if raw[6] & 0x08 else 1))
    try:
        return datetime((1900 if year >= 90 else 2000) + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None


def relative_validity(value: int) -> timedelta:
    """How long a TP-VP of one octet is (section 9.2.3.12.1): in 5 minutes, half hours, days, weeks."""
    if value <= 143:
        return timedelta(minutes=5 * (value + 1))
    if value <= 167:
        return timedelta(hours=12, minutes=30 * (value - 143))
    if value <= 196:
        return timedelta(days=value - 166)
    return timedelta(weeks=value - 192)


def to_relative_validity(period: timedelta) -> int:
    """Return the TP-VP of one octet for a period, rounded up to what can be said.

    Raises:
        SmsError: it is longer than 63 weeks.
    """
    for value in range(256):
        if relative_validity(value) >= period:
            return value
    raise SmsError("A message is kept for at most 63 weeks", field="TP-VP", spec="TS 23.040 section 9.2.3.12.1")


def _swap(number: int) -> int:
    return (number % 10) << 4 | number // 10


def _digits(octet: int) -> int:
    return (octet & 0x0F) * 10 + (octet >> 4)
