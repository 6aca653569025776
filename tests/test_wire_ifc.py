"""Filter criteria: the profile's XML, POSIX expressions, formulas and verdicts (TS 29.228 annexes B, C and E)."""

from __future__ import annotations

import re

import pytest

from labkit.errors import SipError, XmlError
from labkit.wire.diameter import parse_message
from labkit.wire.ere import compile_ere
from labkit.wire.ifc import Rules, evaluate, evaluate_all
from labkit.wire.profile import Criterion, Trigger, parse_profile
from labkit.wire.sip import SipMessage
from tests.ims_bytes import diameter_messages

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0\r\na=sendrecv\r\n"
INVITE = SipMessage.request(
    "INVITE",
    "sip:bob@example.org",
    [
        ("From", "<sip:alice@example.org>;tag=1"),
        ("P-Access-Network-Info", "3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=0010100010000001"),
        ("Recv-Info", "g.3gpp.ussd"),
        ("Content-Type", "application/sdp"),
    ],
    SDP,
)
MESSAGE = SipMessage.request("MESSAGE", "tel:+15550002", [("From", "<sip:alice@example.org>;tag=1")], b"hello")


def method(name: str, group: int = 0, negated: bool = False) -> Trigger:
    return Trigger("Method", name, groups=(group,), negated=negated)


def case(number: int, group: int = 0) -> Trigger:
    return Trigger("SessionCase", str(number), groups=(group,))


def header(name: str, content: str | None = None, negated: bool = False, group: int = 0) -> Trigger:
    return Trigger("SIPHeader", name, content, negated, (group,))


def matches(request: SipMessage, *triggers: Trigger, cnf: bool = True, rules: Rules = Rules.SPEC, sc: int = 0) -> bool:
    return evaluate(Criterion(1, "sip:as", triggers, cnf), request, session_case=sc, rules=rules).matches


# ---- the profile's XML ----------------------------------------------------------------------------------------------
def recorded_user_data() -> bytes:
    """User-Data of the first SAA of a recording: another HSS made it."""
    messages = [parse_message(raw) for _, raw in diameter_messages("06_ifc_ussd_invite.pcap")]
    found = next(message for message in messages if message.name == "SAA").find("User-Data")
    assert found is not None
    return found.raw


def test_a_recorded_profile_is_read() -> None:
    """The USSD profile: an INVITE with Recv-Info g.3gpp.ussd goes to the gateway."""
    profile = parse_profile(recorded_user_data())
    assert profile.impi.startswith("00101")
    assert profile.criteria
    criterion = profile.criteria[0]
    assert {trigger.kind for trigger in criterion.triggers} >= {"Method", "SIPHeader"}
    assert criterion.server.startswith("sip:")
    assert evaluate(criterion, INVITE, session_case=0)
    assert not evaluate(criterion, MESSAGE, session_case=0)
    uri = profile.service_profiles[0].identities[0].uri
    assert profile.criteria_for(uri.upper()) == profile.service_profiles[0].criteria
    assert profile.criteria_for("sip:stranger@example.org") == ()


# The example of TS 29.228 annex C, in the schema's element order.
ANNEX_C = """<?xml version="1.0" encoding="UTF-8"?>
<IMSSubscription xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <PrivateID>IMPI1@homedomain.com</PrivateID>
 <ServiceProfile>
  <PublicIdentity><BarringIndication>1</BarringIndication><Identity>sip:IMPU1@homedomain.com</Identity></PublicIdentity>
  <PublicIdentity><Identity>sip:IMPU2@homedomain.com</Identity></PublicIdentity>
  <InitialFilterCriteria>
   <Priority>5</Priority>
   <ApplicationServer><ServerName>sip:late@homedomain.com</ServerName></ApplicationServer>
   <ProfilePartIndicator>1</ProfilePartIndicator>
  </InitialFilterCriteria>
  <InitialFilterCriteria>
   <Priority>0</Priority>
   <TriggerPoint>
    <ConditionTypeCNF>1</ConditionTypeCNF>
    <SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT>
    <SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>MESSAGE</Method></SPT>
    <SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>SUBSCRIBE</Method></SPT>
    <SPT><ConditionNegated>0</ConditionNegated><Group>1</Group><Method>INVITE</Method></SPT>
    <SPT><ConditionNegated>0</ConditionNegated><Group>1</Group><Method>MESSAGE</Method></SPT>
    <SPT><ConditionNegated>1</ConditionNegated><Group>1</Group><SIPHeader><Header>From</Header><Content>"joe"</Content></SIPHeader></SPT>
   </TriggerPoint>
   <ApplicationServer><ServerName>sip:AS1@homedomain.com</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer>
  </InitialFilterCriteria>
 </ServiceProfile>
</IMSSubscription>"""


def test_the_specification_s_example_is_read() -> None:
    """Annex C: (INVITE or MESSAGE or SUBSCRIBE) and (INVITE or MESSAGE or not from joe)."""
    profile = parse_profile(ANNEX_C.encode())
    assert [identity.barred for identity in profile.service_profiles[0].identities] == [True, False]
    first, late = profile.criteria
    assert (first.priority, first.server, first.default_handling) == (0, "sip:AS1@homedomain.com", 0)
    assert first.formula == (
        "(method is INVITE OR method is MESSAGE OR method is SUBSCRIBE)"
        ' AND (method is INVITE OR method is MESSAGE OR NOT (header From fits /"joe"/))'
    )
    assert (late.formula, late.profile_part) == ("always", 1)
    joe = SipMessage.request("SUBSCRIBE", "sip:x@y", [("From", '"joe" <sip:joe@example.org>;tag=1')])
    ann = SipMessage.request("SUBSCRIBE", "sip:x@y", [("From", '"ann" <sip:ann@example.org>;tag=1')])
    assert [bool(evaluate(first, request, session_case=0)) for request in (joe, ann, INVITE)] == [False, True, True]
    assert not evaluate(late, INVITE, session_case=0, registered=True)
    assert evaluate(late, INVITE, session_case=2, registered=False)


@pytest.mark.parametrize(
    ("raw", "about"),
    [
        (b"", "well-formed"),
        (b"<a/>", "no IMSSubscription"),
        (b"<IMSSubscription><PrivateID>x</PrivateID></IMSSubscription>", "no ServiceProfile"),
        (ANNEX_C.replace("<Priority>0</Priority>", "").encode(), "no Priority"),
        (ANNEX_C.replace("<Priority>0<", "<Priority>first<").encode(), "must be a number"),
        (ANNEX_C.replace("<ServerName>sip:late@homedomain.com</ServerName>", "").encode(), "no ServerName"),
        (ANNEX_C.replace("CNF>1<", "CNF>maybe<").encode(), "must be 0 or 1"),
        (ANNEX_C.replace("<Method>SUBSCRIBE</Method>", "").encode(), "0 tests"),
        (ANNEX_C.replace('"UTF-8"?>', '"UTF-8"?><!DOCTYPE a [<!ENTITY b "c">]>').encode(), "document type"),
    ],
)
def test_a_damaged_profile_is_refused(raw: bytes, about: str) -> None:
    """Every damage is one error that says what is wrong."""
    with pytest.raises(XmlError, match=about):
        parse_profile(raw)


def test_a_profile_cut_off_anywhere_is_refused() -> None:
    """No prefix of a document is taken for the whole."""
    whole = ANNEX_C.encode()
    for end in range(0, len(whole) - 1, 7):
        with pytest.raises(XmlError):
            parse_profile(whole[:end])


# ---- groups ---------------------------------------------------------------------------------------------------------
def test_one_group_is_an_or_under_cnf_and_an_and_under_dnf() -> None:
    """The AND that is really an OR: both conditions in group 0 with ConditionTypeCNF 1."""
    pair = (method("INVITE"), case(0))
    assert [matches(MESSAGE, *pair), matches(MESSAGE, *pair, cnf=False)] == [True, False]
    assert [matches(INVITE, *pair), matches(INVITE, *pair, cnf=False)] == [True, True]
    apart = (method("INVITE", 0), case(0, 1))
    assert [matches(MESSAGE, *apart), matches(MESSAGE, *apart, cnf=False)] == [False, True]


def test_a_condition_counts_in_each_of_its_groups() -> None:
    """An SPT may carry several Group elements."""
    both = Trigger("Method", "INVITE", groups=(0, 1))
    criterion = Criterion(1, "sip:as", (both, case(1, 0), case(2, 1)))
    assert criterion.formula == (
        "(method is INVITE OR session case is terminating registered)"
        " AND (method is INVITE OR session case is terminating unregistered)"
    )
    assert evaluate(criterion, INVITE, session_case=0)
    assert not evaluate(criterion, MESSAGE, session_case=1)


def test_no_trigger_point_matches_everything() -> None:
    """Without TriggerPoint every initial request goes to the server."""
    verdict = evaluate(Criterion(1, "sip:as"), MESSAGE, session_case=1)
    assert verdict.matches
    assert "no trigger point" in str(verdict)


def test_priority_is_the_order() -> None:
    """Lower numbers first, whatever the order of the document."""
    verdicts = evaluate_all([Criterion(20, "sip:b"), Criterion(10, "sip:a")], INVITE, session_case=0)
    assert [verdict.criterion.server for verdict in verdicts] == ["sip:a", "sip:b"]


# ---- single conditions ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("trigger", "spec", "kamailio"),
    [
        (method("INVITE"), True, True),
        (method("invite"), True, True),
        (method("IN"), False, True),
        (method("MESSAGE", negated=True), True, True),
        (Trigger("RequestURI", "bob@"), True, True),
        (Trigger("RequestURI", "^sip:B[aeiou]b@example\\.org$"), True, True),
        (Trigger("RequestURI", "^tel:"), False, False),
        (header("Recv-Info", "g\\.3gpp\\.ussd"), True, True),
        (header("recv-info", '"g.3gpp.ussd"'), False, True),
        (header("P-Access-Network-Info"), True, True),
        (header("Network"), False, True),
        (header("P-.*-Info", "E-UTRAN"), True, True),
        (header("P-Access-Network-Info", negated=True), False, True),
        (header("P-Access-Network-Info", ".*", negated=True), False, False),
        (header("X-Absent", negated=True), True, True),
        (header("X-Absent", ".*", negated=True), True, True),
        (header("X-Absent"), False, False),
        (Trigger("SessionDescription", "m", "audio"), True, True),
        (Trigger("SessionDescription", "m", "audio.*sendrecv"), False, True),
        (Trigger("SessionDescription", "m", "video"), False, False),
        (Trigger("SessionDescription", "m"), True, True),
        (Trigger("SessionDescription", "a", "sendonly", True), True, True),
    ],
    ids=str,
)
def test_conditions_by_the_specification_and_by_kamailio(trigger: Trigger, spec: bool, kamailio: bool) -> None:
    """Where the product differs from the specification, both readings are there."""
    assert matches(INVITE, trigger) is spec
    assert matches(INVITE, trigger, rules=Rules.KAMAILIO) is kamailio


def test_without_sdp_no_sdp_condition_holds() -> None:
    """A MESSAGE has no session description, so its absence is true."""
    assert not matches(MESSAGE, Trigger("SessionDescription", "m"))
    assert matches(MESSAGE, Trigger("SessionDescription", "m", None, True))


@pytest.mark.parametrize(("kind", "expected"), [(0, True), (1, False), (None, True)])
def test_registration_type_narrows_register(kind: int | None, expected: bool) -> None:
    """RegistrationType 0: the initial registration only; where the kind is not known the method decides."""
    register = SipMessage.request("REGISTER", "sip:example.org", [])
    criterion = Criterion(1, "sip:as", (Trigger("Method", "REGISTER", registration_types=(0,)),))
    assert evaluate(criterion, register, session_case=0, registration_type=kind).matches is expected


def test_a_verdict_explains_itself() -> None:
    """Group by group, what was asked and what the request has."""
    criterion = Criterion(1, "sip:as", (method("INVITE", 0), header("Recv-Info", "ussd", group=1), case(1, 1)))
    assert str(evaluate(criterion, INVITE, session_case=0)).splitlines() == [
        "match: (method is INVITE) AND (header Recv-Info fits /ussd/ OR session case is terminating registered)",
        "  group 0 is true",
        "    true: method is INVITE; it is an INVITE",
        "  AND group 1 is true",
        "    true: header Recv-Info fits /ussd/; it says g.3gpp.ussd",
        "    OR false: session case is terminating registered; it is originating",
    ]


def test_a_bad_expression_is_named() -> None:
    """What is no expression is an error of the profile, with its text."""
    with pytest.raises(SipError, match=r"'a\(' is no extended regular expression"):
        matches(INVITE, Trigger("RequestURI", "a("))


# ---- POSIX expressions ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        (r"^\+1555[0-9]{4}$", "+15550002", True),
        (r"\d", "5", False),
        (r"\d", "d", False),
        (r"\D", "d", True),
        ("[[:digit:]]+", "x7", True),
        ("[^[:alnum:]]", "abc1", False),
        (r"[\d]", "\\", True),
        (r"[\d]", "5", False),
        ("[]x]", "]", True),
        ("[^]]", "]", False),
        ("a$", "a\n", False),
        ("a.b", "a\nb", True),
        ("ABC", "xabcx", True),
        ("(ab|cd)+e", "cde", True),
        ("a{2}", "aa", True),
        (r"\.", "x", False),
        (r"\<bob\>", "sip:bob@x", True),
        ("[[:space:]]", "a b", True),
        ("[a&&b]", "&", True),
    ],
)
def test_extended_regular_expressions(expression: str, text: str, found: bool) -> None:
    """As grep -E has them."""
    assert (compile_ere(expression).search(text) is not None) is found


@pytest.mark.parametrize("bad", ["(?i)a", "a\\", "[a", "[[:nope:]]", "(", "*"])
def test_what_is_no_expression_is_refused(bad: str) -> None:
    """One kind of error for all of them."""
    with pytest.raises(re.error):
        compile_ere(bad)
