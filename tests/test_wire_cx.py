"""The builders of Cx messages against recorded messages of Kamailio and of another HSS."""

from __future__ import annotations

import pytest
from ims_bytes import all_messages, one_of_each

from labkit.errors import DiameterError
from labkit.wire import cx
from labkit.wire.aka import AuthVector
from labkit.wire.diameter import Avp, Message, parse_message

ONE_OF_EACH = one_of_each()


def _text(message: Message, name: str) -> str:
    avp = message.find(name)
    return "" if avp is None else avp.value


def _envelope(message: Message) -> cx.Envelope:
    return cx.Envelope(
        _text(message, "Session-Id"),
        _text(message, "Origin-Host"),
        _text(message, "Origin-Realm"),
        _text(message, "Destination-Realm"),
        _text(message, "Destination-Host"),
        message.hop_by_hop_id,
        message.end_to_end_id,
    )


def _same(ours: Message, recorded: Message) -> None:
    """Hold two messages against each other; the order of AVPs is free (RFC 6733 section 3.2)."""
    assert (ours.command_code, ours.application_id, ours.flags) == (
        recorded.command_code,
        recorded.application_id,
        recorded.flags,
    )
    assert (ours.hop_by_hop_id, ours.end_to_end_id) == (recorded.hop_by_hop_id, recorded.end_to_end_id)
    assert sorted(avp.to_bytes() for avp in ours.avps) == sorted(avp.to_bytes() for avp in recorded.avps)
    assert ours.avps[0] == recorded.avps[0]


def _rebuild_request(message: Message) -> Message:
    envelope = _envelope(message)
    user_name, impu = _text(message, "User-Name"), _text(message, "Public-Identity")
    server_name = _text(message, "Server-Name")
    impus = [avp.value for avp in message.find_all("Public-Identity")]
    kind = message.find("User-Authorization-Type")
    if message.name == "UAR":
        visited = message.find("Visited-Network-Identifier").value.decode()
        return cx.uar(
            envelope,
            user_name=user_name,
            public_identity=impu,
            visited_network=visited,
            user_authorization_type=None if kind is None else kind.value,
        )
    if message.name == "MAR":
        item = message.find("SIP-Auth-Data-Item")
        authorization = item.find("SIP-Authorization")
        return cx.mar(
            envelope,
            user_name=user_name,
            public_identity=impu,
            server_name=server_name,
            scheme=item.find("SIP-Authentication-Scheme").value,
            authorization=None if authorization is None else authorization.value,
            number_items=message.find("SIP-Number-Auth-Items").value,
        )
    if message.name == "SAR":
        return cx.sar(
            envelope,
            server_name=server_name,
            server_assignment_type=message.find("Server-Assignment-Type").value,
            user_name=user_name,
            public_identities=impus,
            user_data_already_available=message.find("User-Data-Already-Available").value,
        )
    if message.name == "LIR":
        return cx.lir(envelope, public_identity=impu)
    reason = message.find("Deregistration-Reason")
    text = reason.find("Reason-Info")
    return cx.rtr(
        envelope,
        user_name=user_name,
        public_identities=impus,
        reason=reason.find("Reason-Code").value,
        reason_text="" if text is None else text.value,
    )


def test_every_recorded_request_is_rebuilt():
    """Each recorded UAR, MAR, SAR, LIR and RTR comes out of our builder with the same AVPs, byte for byte."""
    seen = set()
    for raw in all_messages():
        message = parse_message(raw)
        if message.request and 300 <= message.command_code <= 304:
            # The other HSS leaves out nothing we write, but an empty Reason-Info, which Wireshark flags.
            kept = tuple(avp for avp in message.avps if avp.name != "Deregistration-Reason" or len(avp.raw) > 28)
            if len(kept) == len(message.avps):
                _same(_rebuild_request(message), message)
                seen.add(message.name)
    assert seen == {"UAR", "MAR", "SAR", "LIR", "RTR"}


def test_every_recorded_answer_is_rebuilt():
    """Each recorded answer of an HSS comes out of our builder; ours may hold more, never less."""
    requests: dict[tuple[int, int], Message] = {}
    seen = set()
    for raw in all_messages():
        message = parse_message(raw)
        key = (message.hop_by_hop_id, message.end_to_end_id)
        if message.request:
            requests[key] = message
            continue
        request = requests.get(key)
        if request is None or message.application_id != cx.CX_APPLICATION_ID or message.name == "RTA":
            continue
        plain = message.find("Result-Code")
        group = message.find("Experimental-Result")
        result = cx.Result(plain.value) if plain else cx.Result(group.find("Experimental-Result-Code").value, True)
        common = (request, _text(message, "Origin-Host"), _text(message, "Origin-Realm"), result)
        server_name = _text(message, "Server-Name")
        capabilities = message.find("Server-Capabilities")
        if message.name == "UAA":
            ours = cx.uaa(*common, server_name=server_name, capabilities=capabilities)
        elif message.name == "LIA":
            ours = cx.lia(*common, server_name=server_name, capabilities=capabilities)
        elif message.name == "MAA":
            ours = cx.maa(*common, message.find_all("SIP-Auth-Data-Item"))
        else:
            data = message.find("User-Data")
            ours = cx.saa(*common, user_name=_text(message, "User-Name"), user_data=b"" if data is None else data.value)
        missing = {avp.to_bytes() for avp in message.avps} - {avp.to_bytes() for avp in ours.avps}
        assert not missing, (message.name, missing)
        seen.add(message.name)
    assert seen == {"UAA", "MAA", "SAA", "LIA"}


def test_recorded_vector_item_is_rebuilt():
    """An AKA item built from the vector's values equals the recorded one, but for its number."""
    recorded = parse_message(ONE_OF_EACH["303A"]).find("SIP-Auth-Data-Item")
    values = {avp.name: avp.raw for avp in recorded.children}
    vector = AuthVector(
        values["SIP-Authenticate"][:16],
        values["SIP-Authorization"],
        values["Confidentiality-Key"],
        values["Integrity-Key"],
        values["SIP-Authenticate"][16:],
    )
    ours = cx.aka_item(vector, number=recorded.find("SIP-Item-Number").value)
    assert ours == recorded


def test_recorded_capabilities_exchange_is_rebuilt():
    """Our CER carries what Kamailio's carries, and Host-IP-Address, which RFC 6733 wants."""
    recorded = parse_message(ONE_OF_EACH["257R"])
    ours = cx.cer(
        _text(recorded, "Origin-Host"),
        _text(recorded, "Origin-Realm"),
        "127.0.0.1",
        product=_text(recorded, "Product-Name"),
        hop_by_hop_id=recorded.hop_by_hop_id,
        end_to_end_id=recorded.end_to_end_id,
    )
    extra = [avp for avp in ours.avps if avp.name != "Host-IP-Address"]
    assert sorted(avp.to_bytes() for avp in extra) == sorted(avp.to_bytes() for avp in recorded.avps)


def test_recorded_watchdog_is_rebuilt():
    """Our DWR is Kamailio's, byte for byte."""
    recorded = parse_message(ONE_OF_EACH["280R"])
    ours = cx.dwr(
        _text(recorded, "Origin-Host"),
        _text(recorded, "Origin-Realm"),
        hop_by_hop_id=recorded.hop_by_hop_id,
        end_to_end_id=recorded.end_to_end_id,
    )
    assert ours.to_bytes() == ONE_OF_EACH["280R"]


def test_results():
    """A plain result is one AVP, an experimental one a group with 3GPP's vendor id."""
    assert cx.SUCCESS.avp() == Avp.of("Result-Code", 2001)
    recorded = parse_message(ONE_OF_EACH["300A"]).find("Experimental-Result")
    assert cx.FIRST_REGISTRATION.avp() == recorded


def test_answers_to_the_hss():
    """RTA and PPA carry the frame of every Cx answer."""
    rtr = parse_message(ONE_OF_EACH["304R"])
    recorded = parse_message(ONE_OF_EACH["304A"])
    ours = cx.rta(rtr, _text(recorded, "Origin-Host"), _text(recorded, "Origin-Realm"))
    wanted = {avp.to_bytes() for avp in recorded.avps if avp.name not in ("Destination-Realm", "Session-Id")}
    assert wanted <= {avp.to_bytes() for avp in ours.avps}
    ppr = cx.ppr(_envelope(rtr), user_name="u", user_data=b"<x/>")
    assert cx.ppa(ppr, "a", "b").name == "PPA"


def test_protocol_errors_set_the_flag():
    """A 3xxx result sets the E flag; a request without Session-Id cannot be answered by a Cx builder."""
    rtr = parse_message(ONE_OF_EACH["304R"])
    assert cx.answer(rtr, "a", "b", cx.Result(3004)).flags & 0x20
    assert not cx.answer(rtr, "a", "b", cx.Result(3004, True)).flags & 0x20
    with pytest.raises(DiameterError):
        cx.answer(Message(300, 16777216, 0x80, 1, 1), "a", "b", cx.SUCCESS)
