"""Filter criteria as tables and back."""

from __future__ import annotations

import pytest

from labkit.peers.hss.criteria import criterion_fields, criterion_from_fields


@pytest.mark.parametrize(
    "trigger",
    [
        {"method": "INVITE"},
        {"session_case": 0},
        {"session_case": 2, "negated": True},
        {"header": "X", "header_content": ".*"},
        {"sdp_line": "m", "sdp_content": "audio"},
        {"request_uri": "^tel:"},
        {"method": "REGISTER", "registration_types": [0, 2]},
    ],
    ids=str,
)
def test_a_criterion_survives_being_written(trigger: dict[str, object]) -> None:
    """Session case 0 too, which Python takes for False."""
    given = {"priority": 1, "server": "sip:as@x", "triggers": [{"group": 0, **trigger}]}
    criterion = criterion_from_fields(given, "x")
    assert criterion_from_fields(criterion_fields(criterion), "x") == criterion
