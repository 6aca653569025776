"""A profile as tree and tables: a recorded one, and one with every kind of condition."""

from __future__ import annotations

from labkit.view.profile import view_profile
from labkit.wire.diameter import parse_message
from tests.ims_bytes import diameter_messages

USER_DATA = b"""<?xml version="1.0"?><IMSSubscription><PrivateID>a@x</PrivateID><ServiceProfile>
<PublicIdentity><BarringIndication>1</BarringIndication><Identity>sip:1@x</Identity></PublicIdentity>
<PublicIdentity><Identity>tel:+1</Identity></PublicIdentity>
<InitialFilterCriteria><Priority>20</Priority>
<ApplicationServer><ServerName>sip:voicemail@192.0.2.7:5070</ServerName><DefaultHandling>1</DefaultHandling>
</ApplicationServer><ProfilePartIndicator>1</ProfilePartIndicator></InitialFilterCriteria>
<InitialFilterCriteria><Priority>10</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF>
<SPT><ConditionNegated>1</ConditionNegated><Group>0</Group><SIPHeader><Header>X</Header><Content>&lt;b&gt;</Content>
</SIPHeader></SPT><SPT><Group>1</Group><SessionCase>0</SessionCase></SPT></TriggerPoint>
<ApplicationServer><ServerName>sip:as@192.0.2.7:5070</ServerName></ApplicationServer></InitialFilterCriteria>
</ServiceProfile></IMSSubscription>"""
NAMES = {"192.0.2.7:5070": "as"}


def test_the_tree_names_every_part_and_no_address() -> None:
    """The text is the same in every run: servers by their names in the capture."""
    assert repr(view_profile(USER_DATA, NAMES)).splitlines() == [
        "IMSSubscription",
        "├─ PrivateID: a@x",
        "└─ ServiceProfile",
        "   ├─ PublicIdentity: sip:1@x (barred)",
        "   ├─ PublicIdentity: tel:+1",
        "   ├─ InitialFilterCriteria, priority 10",
        "   │  ├─ TriggerPoint",
        "   │  │  ├─ ConditionTypeCNF 0: AND inside a group, OR between groups",
        "   │  │  ├─ Group 0",
        "   │  │  │  └─ NOT (header X fits /<b>/)",
        "   │  │  └─ Group 1",
        "   │  │     └─ session case is originating",
        "   │  └─ ApplicationServer: as",
        "   │     └─ DefaultHandling 0 SESSION_CONTINUED",
        "   └─ InitialFilterCriteria, priority 20",
        "      ├─ ApplicationServer: voicemail at as",
        "      │  └─ DefaultHandling 1 SESSION_TERMINATED",
        "      └─ ProfilePartIndicator: while not registered",
    ]


def test_html_escapes_what_came_over_the_network() -> None:
    """And has the full URI of the server."""
    html = view_profile(USER_DATA, NAMES)._repr_html_()
    assert "<b>/)" not in html
    assert "&lt;b&gt;" in html
    assert "sip:as@192.0.2.7:5070" in html


def test_tables_have_a_row_for_each_criterion_and_condition() -> None:
    """In order of priority."""
    view = view_profile(USER_DATA, NAMES)
    assert list(view.table.index) == [10, 20]
    assert list(view.table.loc[20]) == ["always", "voicemail at as", "terminate", "while not registered"]
    assert list(view.triggers.loc[10].value) == ["X", "0 ORIGINATING_REGISTERED"]
    assert list(view.triggers.loc[10].negated) == [True, False]


def test_a_recorded_profile_is_shown() -> None:
    """Of a server that the capture does not name, the URI is shown."""
    saa = next(
        message
        for message in (parse_message(raw) for _, raw in diameter_messages("06_ifc_ussd_invite.pcap"))
        if message.name == "SAA"
    )
    user_data = saa.find("User-Data")
    assert user_data is not None
    view = view_profile(user_data.raw, {})
    assert all(server.startswith("sip:") for server in view.table.server)
    assert "Recv-Info" in repr(view)
