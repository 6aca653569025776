"""The HSS as TS 29.228 wants it: who may register, who serves whom, and what each answer carries."""

from __future__ import annotations

import asyncio
import xml.etree.ElementTree as ElementTree

import pytest
from cx_client import HSS, REALM, SCSCF, USERS, CxClient, outcome, running_hss
from in_loop import in_loop

from labkit.errors import LabkitError
from labkit.peers.hss.user import NOT_REGISTERED, REGISTERED, UNREGISTERED
from labkit.wire import cx
from labkit.wire.aka import Milenage, answer_challenge, build_auts, digest_ha1, open_autn
from labkit.wire.diameter import Message

ALICE, BOB, DAVE = USERS["alice"], USERS["bob"], USERS["dave"]
OTHER = f"sip:other.{REALM}:6060"
SUCCESS, FIRST, SUBSEQUENT = (2001, False), (2001, True), (2002, True)


def item_of(maa: Message) -> dict[str, bytes]:
    """Read the SIP-Auth-Data-Item of an MAA."""
    return {avp.name: avp.raw for avp in maa.find("SIP-Auth-Data-Item").children}


@in_loop
async def test_first_registration():
    """UAR 2001 with capabilities, MAR notes the S-CSCF, UAR 2002 with its name, SAR registers, LIR finds it."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        user = hss.store.find("alice")
        first = await client.uar(ALICE)
        assert outcome(first) == FIRST
        assert first.find("Server-Name") is None
        capabilities = first.find("Server-Capabilities").children
        assert [(avp.name, avp.value) for avp in capabilities] == [
            ("Mandatory-Capability", 0),
            ("Optional-Capability", 1),
        ]
        assert outcome(await client.uar(ALICE)) == FIRST, "UAR reads only"
        assert outcome(await client.mar(ALICE)) == SUCCESS
        assert (user.state, user.pending) == (NOT_REGISTERED, True)
        second = await client.uar(ALICE)
        assert outcome(second) == SUBSEQUENT
        assert second.find("Server-Name").value == SCSCF
        assert second.find("Server-Capabilities") is None
        assert outcome(await client.sar(ALICE, 1)) == SUCCESS
        assert (user.state, user.pending) == (REGISTERED, False)
        lia = await client.lir(ALICE.impus[2])
        assert (outcome(lia), lia.find("Server-Name").value) == (SUCCESS, SCSCF)


@in_loop
async def test_every_answer_carries_its_frame():
    """Session-Id first, application, session state and origin stand in every answer, errors too."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        nobody = type(ALICE)("x", "nobody@x", ("sip:nobody@x",), "aka")
        answers = [
            await client.uar(ALICE),
            await client.uar(nobody),
            await client.mar(ALICE),
            await client.mar(nobody),
            await client.sar(ALICE, 1),
            await client.sar(nobody, 1),
            await client.lir(ALICE.impus[0]),
            await client.lir("sip:nobody@x"),
        ]
        for answer in answers:
            assert answer.avps[0].name == "Session-Id"
            assert answer.avps[0].value.startswith(client.host)
            group = answer.find("Vendor-Specific-Application-Id")
            assert [avp.value for avp in group.children] == [10415, 16777216]
            assert answer.find("Auth-Session-State").value == 1
            assert (answer.find("Origin-Host").value, answer.find("Origin-Realm").value) == (HSS, REALM)
            assert answer.flags == 0x40
            outcome(answer)
            for avp in answer.avps:
                assert bool(avp.flags & 0x80) == (avp.vendor != 0), avp.name


@in_loop
async def test_unknown_and_mismatched_identities():
    """5001 for somebody unknown, 5002 for an IMPU of somebody else; MAA names both identities even then."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        nobody = type(ALICE)("x", "nobody@x", ("sip:nobody@x",), "aka")
        for ask in (client.uar, client.mar):
            assert outcome(await ask(nobody)) == (5001, True)
            assert outcome(await ask(ALICE, "sip:nobody@x")) == (5001, True)
            assert outcome(await ask(ALICE, BOB.impus[0])) == (5002, True)
        assert outcome(await client.sar(nobody, 1)) == (5001, True)
        assert outcome(await client.sar(ALICE, 1, public_identities=BOB.impus[:1])) == (5002, True)
        assert outcome(await client.lir("sip:nobody@x")) == (5001, True)
        maa = await client.mar(ALICE, BOB.impus[0])
        assert maa.find("User-Name").value == ALICE.impi
        assert maa.find("Public-Identity").value == BOB.impus[0]


@in_loop
async def test_roaming_and_barring():
    """5004 where the user may not roam, 5003 for a barred user; a de-registration is not stopped by roaming."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        assert outcome(await client.uar(USERS["erin"])) == (5004, True)
        assert outcome(await client.uar(USERS["erin"], kind=2)) == (5004, True)
        assert outcome(await client.uar(USERS["erin"], kind=1)) == (5003, True)
        assert outcome(await client.uar(USERS["grace"])) == (5003, False)
        user = hss.store.find("alice")
        hss.store.change(user, {"visited_networks": ["home.example"]})
        assert outcome(await client.uar(ALICE)) == (5004, True)
        assert outcome(await client.uar(ALICE, network="home.example")) == FIRST
        hss.store.change(user, {"visited_networks": [REALM], "barred_impus": [ALICE.impus[0]]})
        assert outcome(await client.uar(ALICE)) == FIRST, "one barred identity among free ones is no obstacle"
        hss.store.change(user, {"barred_impus": list(ALICE.impus)})
        assert outcome(await client.uar(ALICE)) == (5003, False)


@in_loop
async def test_user_authorization_types():
    """DE_REGISTRATION asks where; REGISTRATION_AND_CAPABILITIES gives capabilities even to the registered."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        assert outcome(await client.uar(ALICE, kind=0)) == FIRST
        assert outcome(await client.uar(ALICE, kind=1)) == (5003, True)
        await client.sar(ALICE, 1)
        leaving = await client.uar(ALICE, kind=1)
        assert (outcome(leaving), leaving.find("Server-Name").value) == (SUCCESS, SCSCF)
        anew = await client.uar(ALICE, kind=2)
        assert outcome(anew) == SUCCESS
        assert anew.find("Server-Capabilities") is not None
        assert anew.find("Server-Name") is None
        wrong = await client.uar(ALICE, kind=7)
        assert outcome(wrong) == (5004, False)
        assert wrong.find("Failed-AVP").children[0].name == "User-Authorization-Type"


@in_loop
async def test_aka_vector():
    """The MAA's vector is one that the SIM accepts, each with a higher SQN."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        sim = Milenage(ALICE.k, ALICE.opc)
        last = 0
        for scheme in ("Digest-AKAv1-MD5", "Unknown", "unknown", "Digest-AKAv2-MD5"):
            maa = await client.mar(ALICE, scheme=scheme)
            item = item_of(maa)
            assert maa.find("SIP-Number-Auth-Items").value == 1
            assert item["SIP-Authentication-Scheme"].decode() in ("Digest-AKAv1-MD5", "Digest-AKAv2-MD5")
            rand, autn = item["SIP-Authenticate"][:16], item["SIP-Authenticate"][16:]
            answer = answer_challenge(sim, rand, autn, last)
            assert answer.res == item["SIP-Authorization"]
            assert (answer.ck, answer.ik) == (item["Confidentiality-Key"], item["Integrity-Key"])
            assert open_autn(sim, rand, autn)[1] == ALICE.amf
            last = answer.sqn


@in_loop
async def test_several_vectors():
    """Up to five vectors are given out at once, numbered."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        maa = await client.mar(ALICE, number_items=9)
        items = maa.find_all("SIP-Auth-Data-Item")
        assert [item.find("SIP-Item-Number").value for item in items] == [1, 2, 3, 4, 5]
        assert maa.find("SIP-Number-Auth-Items").value == 5
        assert len({item.find("SIP-Authenticate").raw for item in items}) == 5


@in_loop
async def test_resynchronisation():
    """A genuine AUTS sets the SQN, a forged one does not, a short one is a wrong value."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        sim = Milenage(ALICE.k, ALICE.opc)
        item = item_of(await client.mar(ALICE))
        rand = item["SIP-Authenticate"][:16]
        auts = build_auts(sim, rand, 1_000_000)
        item = item_of(await client.mar(ALICE, authorization=rand + auts))
        fresh = answer_challenge(sim, item["SIP-Authenticate"][:16], item["SIP-Authenticate"][16:], 1_000_000)
        assert fresh.res == item["SIP-Authorization"]
        before = hss.store.find("alice").sqn
        await client.mar(ALICE, authorization=rand + bytes(14))
        assert hss.store.find("alice").sqn == before + 33
        wrong = await client.mar(ALICE, authorization=rand)
        assert outcome(wrong) == (5004, False)
        assert wrong.find("Public-Identity").value == ALICE.impus[0]


@in_loop
async def test_sip_digest_and_schemes():
    """A digest user gets HA1; a scheme that the user cannot do is refused with 5006."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for scheme in ("SIP Digest", "Unknown"):
            maa = await client.mar(DAVE, scheme=scheme)
            group = maa.find("SIP-Auth-Data-Item").find("SIP-Digest-Authenticate")
            values = {avp.name: avp.value for avp in group.children}
            assert values == {
                "Digest-Realm": REALM,
                "Digest-Algorithm": "MD5",
                "Digest-Qop": "auth",
                "Digest-HA1": digest_ha1(DAVE.impi, REALM, DAVE.password),
            }
        old = item_of(await client.mar(DAVE, scheme="Digest-MD5"))
        assert old["SIP-Authorization"].decode() == DAVE.password
        assert outcome(await client.mar(DAVE, scheme="Digest-AKAv1-MD5")) == (5006, True)
        assert outcome(await client.mar(ALICE, scheme="SIP Digest")) == (5006, True)
        assert outcome(await client.mar(ALICE, scheme="NASS-Bundled")) == (5006, True)
        assert not hss.store.find("alice").pending


@in_loop
@pytest.mark.parametrize(
    ("kind", "state", "name"),
    [
        (0, REGISTERED, SCSCF),
        (1, REGISTERED, SCSCF),
        (2, REGISTERED, SCSCF),
        (3, UNREGISTERED, SCSCF),
        (4, NOT_REGISTERED, ""),
        (5, NOT_REGISTERED, ""),
        (6, UNREGISTERED, SCSCF),
        (7, UNREGISTERED, SCSCF),
        (8, NOT_REGISTERED, ""),
        (9, REGISTERED, SCSCF),
        (10, REGISTERED, SCSCF),
        (11, NOT_REGISTERED, ""),
    ],
)
async def test_assignment_types_on_a_registered_user(kind, state, name):
    """Each Server-Assignment-Type does to a registered user what TS 29.228 section 6.1.2 says."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        saa = await client.sar(ALICE, kind)
        assert outcome(saa) == SUCCESS
        user = hss.store.find("alice")
        assert (user.state, user.scscf.name.decode()) == (state, name)
        assert (saa.find("User-Data") is not None) == (kind <= 3)
        assert saa.find("User-Name").value == ALICE.impi


@in_loop
async def test_assignment_types_that_do_not_fit():
    """12 to 14 are not for an S-CSCF (5007), 15 does not exist (5004 with Failed-AVP)."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for kind in (12, 13, 14):
            assert outcome(await client.sar(ALICE, kind)) == (5007, True)
        wrong = await client.sar(ALICE, 15)
        assert outcome(wrong) == (5004, False)
        assert wrong.find("Failed-AVP").children[0].value == 15


@in_loop
async def test_failed_authentication_brings_back_what_was():
    """9 and 10 drop the pending name: a new user has none, a registered one keeps the S-CSCF it had."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        user = hss.store.find("alice")
        for kind in (9, 10):
            await client.mar(ALICE)
            assert outcome(await client.sar(ALICE, kind)) == SUCCESS
            assert (user.state, user.scscf.name, user.pending) == (NOT_REGISTERED, b"", False)
            assert outcome(await client.uar(ALICE)) == FIRST
        await client.sar(ALICE, 1)
        await client.mar(ALICE, server=OTHER)
        assert (await client.uar(ALICE)).find("Server-Name").value == OTHER
        assert outcome(await client.sar(ALICE, 9, OTHER)) == SUCCESS
        assert (user.state, user.scscf.name.decode()) == (REGISTERED, SCSCF)
        assert (await client.lir(ALICE.impus[0])).find("Server-Name").value == SCSCF


@in_loop
async def test_somebody_elses_subscriber():
    """An S-CSCF that does not serve the user is refused: 5005 to take over, 5012 for the rest."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        for kind in (1, 2, 3):
            assert outcome(await client.sar(ALICE, kind, OTHER)) == (5005, True)
        for kind in (0, 4, 5, 6, 7, 8, 9, 10, 11):
            assert outcome(await client.sar(ALICE, kind, OTHER)) == (5012, False)
        assert hss.store.find("alice").scscf.name.decode() == SCSCF


@in_loop
async def test_identities_of_a_sar():
    """Several identities may leave together, but not arrive; either identity alone is enough; none is not."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        assert outcome(await client.sar(ALICE, 1, public_identities=ALICE.impus)) == (5009, False)
        assert outcome(await client.sar(ALICE, 3, user_name="")) == SUCCESS
        assert outcome(await client.sar(ALICE, 5, public_identities=ALICE.impus)) == SUCCESS
        assert outcome(await client.sar(ALICE, 5, public_identities=())) == SUCCESS
        mixed = (ALICE.impus[0], BOB.impus[0])
        assert outcome(await client.sar(ALICE, 5, public_identities=mixed)) == (5002, True)
        nobody = await client.sar(ALICE, 5, user_name="", public_identities=())
        assert outcome(nobody) == (5005, False)
        assert nobody.find("Failed-AVP").children[0].name == "User-Name"


@in_loop
async def test_profile():
    """User-Data holds every identity of the implicit set, and the filter criteria in order of priority."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        frank = USERS["frank"]
        hss.store.change(
            hss.store.find("frank"),
            {
                "barred_impus": [frank.impus[0]],
                "ifc": [
                    {"priority": 20, "server": "sip:b.example", "cnf": False, "default_handling": 1},
                    {
                        "priority": 5,
                        "server": "sip:a.example",
                        "service_info": "<&>",
                        "triggers": [
                            {"group": [0, 1], "method": "INVITE", "negated": True},
                            {"group": 2, "header": "Recv-Info", "header_content": "g.3gpp.ussd"},
                            {"group": 3, "sdp_line": "m", "sdp_content": "audio"},
                            {"group": 3, "request_uri": "tel:.*"},
                            {"group": 3, "session_case": 0},
                        ],
                    },
                ],
            },
        )
        saa = await client.sar(frank, 1)
        root = ElementTree.fromstring(saa.find(606, 10415).value)
        assert root.findtext("PrivateID") == frank.impi
        assert [node.text for node in root.iter("Identity")] == list(frank.impus)
        assert [node.text for node in root.iter("BarringIndication")] == ["1", "0", "0", "0"]
        criteria = root.findall("ServiceProfile/InitialFilterCriteria")
        assert [node.findtext("Priority") for node in criteria] == ["5", "20"]
        assert criteria[1].find("TriggerPoint") is None
        assert criteria[1].findtext("ApplicationServer/DefaultHandling") == "1"
        trigger = criteria[0].find("TriggerPoint")
        assert trigger.findtext("ConditionTypeCNF") == "1"
        spts = trigger.findall("SPT")
        assert [[group.text for group in spt.findall("Group")] for spt in spts][:2] == [["0", "1"], ["2"]]
        assert spts[0].findtext("ConditionNegated") == "1"
        assert spts[0].findtext("Method") == "INVITE"
        assert spts[1].findtext("SIPHeader/Content") == "g.3gpp.ussd"
        assert spts[2].findtext("SessionDescription/Line") == "m"
        assert spts[3].findtext("RequestURI") == "tel:.*"
        assert spts[4].findtext("SessionCase") == "0"
        assert criteria[0].findtext("ApplicationServer/ServiceInfo") == "<&>"


@in_loop
async def test_profile_is_left_out_when_it_is_there():
    """An S-CSCF that has the profile already gets none."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        saa = await client.sar(ALICE, 2, user_data_already_available=1)
        assert outcome(saa) == SUCCESS
        assert saa.find("User-Data") is None
        assert outcome(await client.sar(ALICE, 2, user_data_already_available=2)) == (5004, False)


@in_loop
async def test_location_of_the_called():
    """LIR: 5001 unknown, 5003 away, 2003 away with a service, 2001 registered or unregistered."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        frank = USERS["frank"]
        assert outcome(await client.lir("sip:nobody@x")) == (5001, True)
        assert outcome(await client.lir(ALICE.impus[1])) == (5003, True)
        away = await client.lir(frank.impus[1])
        assert outcome(away) == (2003, True)
        assert away.find("Server-Capabilities") is not None
        assert outcome(await client.lir(frank.impus[1], originating=True)) == (5003, True)
        await client.sar(frank, 3)
        served = await client.lir(frank.impus[1])
        assert (outcome(served), served.find("Server-Name").value) == (SUCCESS, SCSCF)
        capable = await client.lir(frank.impus[1], user_authorization_type=2)
        assert capable.find("Server-Capabilities") is not None
        await client.mar(ALICE)
        assert outcome(await client.lir(ALICE.impus[0])) == (5003, True), "pending is not registered"


@in_loop
async def test_identities_are_compared_in_canonical_form():
    """Parameters and the case of scheme and host do not make another user; visual marks in a number neither."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        for impu in (f"SIP:alice@{REALM.upper()};user=phone", "tel:+1-555-0001", "tel:+1(555)0001"):
            assert outcome(await client.lir(impu)) == SUCCESS
            assert outcome(await client.uar(ALICE, impu)) == SUBSEQUENT
            maa = await client.mar(ALICE, impu)
            assert maa.find("Public-Identity").value == impu
        assert outcome(await client.lir(f"sip:ALICE@{REALM}")) == (5001, True)


async def _answer_rtr(client: CxClient, results: list[Message]) -> None:
    while True:
        request = await client.incoming.get()
        results.append(request)
        client.writer.write(cx.rta(request, client.host, REALM).to_bytes())


@in_loop
async def test_rtr():
    """RTR goes to the S-CSCF of the SAR, names all identities and the reason, and a success clears the state."""
    async with (
        running_hss() as hss,
        CxClient(hss.diameter_port, "icscf") as icscf,
        CxClient(hss.diameter_port) as scscf,
    ):
        user = hss.store.find("alice")
        with pytest.raises(LabkitError):
            await hss.requests.terminate(user, 0, "")
        await scscf.sar(ALICE, 1)
        seen: list[Message] = []
        answering = asyncio.create_task(_answer_rtr(scscf, seen))
        result = await hss.requests.terminate(user, 3, "moved away")
        assert (result["answered"], result["result"]) == (True, "DIAMETER_SUCCESS")
        assert icscf.incoming.empty()
        (rtr,) = seen
        assert rtr.name == "RTR"
        assert rtr.find("Destination-Host").value == scscf.host
        assert rtr.find("User-Name").value == ALICE.impi
        assert [avp.value for avp in rtr.find_all("Public-Identity")] == list(ALICE.impus)
        reason = rtr.find("Deregistration-Reason")
        assert (reason.find("Reason-Code").value, reason.find("Reason-Info").value) == (3, "moved away")
        assert user.state == NOT_REGISTERED
        assert outcome(await scscf.uar(ALICE)) == FIRST
        answering.cancel()


@in_loop
async def test_rtr_that_nobody_takes(monkeypatch):
    """Without an answer, or without a connection, the state stays and the outcome says so."""
    monkeypatch.setattr("labkit.peers.hss.requests.REQUEST_TIME_S", 0.05)
    async with running_hss() as hss:
        async with CxClient(hss.diameter_port) as client:
            await client.sar(ALICE, 1)
            user = hss.store.find("alice")
            assert (await hss.requests.terminate(user, 0, ""))["result"] == "no answer"
            monkeypatch.setattr("labkit.peers.hss.requests.REQUEST_TIME_S", 5)
            asking = asyncio.create_task(hss.requests.terminate(user, 0, ""))
            await client.incoming.get()
        assert "closed the connection" in (await asking)["result"]
        assert (await hss.requests.terminate(user, 0, ""))["result"] == "not connected"
        assert user.state == REGISTERED


@in_loop
async def test_ppr():
    """PPR carries the changed profile to the S-CSCF."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        user = hss.store.find("alice")
        hss.store.change(user, {"ifc": [{"priority": 1, "server": "sip:as.example"}]})
        asking = asyncio.create_task(hss.requests.push_profile(user))
        ppr = await client.incoming.get()
        assert ppr.name == "PPR"
        assert b"sip:as.example" in ppr.find(606, 10415).value
        client.writer.write(cx.ppa(ppr, client.host, REALM).to_bytes())
        assert (await asking)["result_code"] == 2001


@in_loop
async def test_change_of_scscf():
    """When another S-CSCF takes a user over, the old one gets RTR with NEW_SERVER_ASSIGNED."""
    async with (
        running_hss() as hss,
        CxClient(hss.diameter_port) as old,
        CxClient(hss.diameter_port, "other") as new,
    ):
        await old.sar(ALICE, 1)
        await new.mar(ALICE, server=OTHER)
        assert outcome(await new.sar(ALICE, 1, OTHER)) == SUCCESS
        rtr = await asyncio.wait_for(old.incoming.get(), 5)
        assert rtr.find("Deregistration-Reason").find("Reason-Code").value == 1
        old.writer.write(cx.rta(rtr, old.host, REALM).to_bytes())
        assert (await new.lir(ALICE.impus[0])).find("Server-Name").value == OTHER
