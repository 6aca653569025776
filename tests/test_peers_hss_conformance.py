"""What docs/hss-conformance.md says: each row has its test, and those that have no better place are here."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest
from cx_client import HSS, REALM, SCSCF, USERS, CxClient, outcome, running_hss
from in_loop import in_loop

from labkit.peers.hss import checks
from labkit.wire import cx
from labkit.wire.diameter import Avp, Message

ALICE, ERIN, FRANK, GRACE = (USERS[name] for name in ("alice", "erin", "frank", "grace"))
ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "hss-conformance.md"
SUCCESS, FIRST, SUBSEQUENT = (2001, False), (2001, True), (2002, True)


def _requests(client: CxClient) -> dict[str, Message]:
    """Make one request of each command about alice, with all that its grammar requires."""
    impi, impu = ALICE.impi, ALICE.impus[0]
    return {
        "UAR": cx.uar(client.envelope(), user_name=impi, public_identity=impu, visited_network=REALM),
        "MAR": cx.mar(client.envelope(), user_name=impi, public_identity=impu, server_name=SCSCF),
        "SAR": cx.sar(
            client.envelope(),
            user_name=impi,
            public_identities=[impu],
            server_name=SCSCF,
            server_assignment_type=1,
        ),
        "LIR": cx.lir(client.envelope(), public_identity=impu),
    }


def _changed(message: Message, *extra: Avp, without: str = "") -> Message:
    avps = (*(avp for avp in message.avps if avp.name != without), *extra)
    fields = message.command_code, message.application_id, message.flags, message.hop_by_hop_id, message.end_to_end_id
    return Message(*fields, avps)


# --- the document ---


def _rows() -> list[list[str]]:
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in rows if len(row) == 4 and row[3] != "shown by" and set(row[0]) != {"-"}]


def test_every_row_names_a_test_that_exists() -> None:
    """Each row of the table names at least one test, and each test that is named is there."""
    text = DOCUMENT.read_text(encoding="utf-8")
    files = dict(re.findall(r"^- `(\w+)`: `(tests/[\w/]+\.py)`", text, re.MULTILINE))
    tests = {
        short: {
            node.name
            for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        for short, path in files.items()
    }
    rows = _rows()
    assert len(rows) > 80
    for row in rows:
        named = re.findall(r"`(\w+)::(\w+)`", row[3])
        assert named, f"no test stands beside {row[0]}"
        for short, name in named:
            assert name in tests[short], f"{short}::{name} beside {row[0]} does not exist"


def test_every_required_avp_has_its_row() -> None:
    """Whatever the HSS demands of a request stands in the table of that command."""
    sections = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for code, names in checks._REQUIRED_NAMES.items():
        title = {257: "CER", 280: "DWR", 282: "DPR", 300: "UAR", 301: "SAR", 302: "LIR", 303: "MAR"}[int(code)]
        own = next(section for section in sections if section.startswith(title))
        common = next(section for section in sections if section.startswith("Every"))
        for name in names:
            assert f"| {name}" in own or f"| {name}" in common, f"{name} is missing under {title}"


# --- the grammar of requests ---


@in_loop
@pytest.mark.parametrize("command", ["UAR", "MAR", "SAR", "LIR"])
async def test_required_avps_of_every_command(command):
    """Each AVP that a command requires is missed when it is not there: 5005, with an example in Failed-AVP."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        code = _requests(client)[command].command_code
        for name in checks._REQUIRED_NAMES[code]:
            answer = await client.ask(_changed(_requests(client)[command], without=name))
            assert answer.find("Result-Code").value == 5005, name
            assert [avp.name for avp in answer.find("Failed-AVP").children] == [name]
            assert hss.store.find("alice").scscf.name == b""


@in_loop
async def test_optional_avps_are_taken_without_harm():
    """What the grammar allows and this HSS does not use changes no answer."""
    optional = {
        "UAR": [Avp.of("Route-Record", "relay")],
        "MAR": [],
        "SAR": [
            Avp.of("Wildcarded-Public-Identity", "sip:x!.*!@home"),
            Avp.of("SCSCF-Restoration-Info", [Avp.of("User-Name", ALICE.impi)]),
            Avp.of("Multiple-Registration-Indication", 0),
            Avp.of("SAR-Flags", 0),
            Avp.of("Session-Priority", 0),
        ],
        "LIR": [Avp.of("Session-Priority", 0)],
    }
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        wanted = {"UAR": FIRST, "LIR": (5003, True), "MAR": SUCCESS, "SAR": SUCCESS}
        for command, result in wanted.items():
            extra = [*optional[command], Avp.of("Origin-State-Id", 7)]
            assert outcome(await client.ask(_changed(_requests(client)[command], *extra))) == result


@in_loop
async def test_supported_features():
    """A feature that a request cannot do without is refused with 5011; otherwise the answer says that there is none."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        parts = [Avp.of("Vendor-Id", 10415), Avp.of("Feature-List-ID", 1), Avp.of("Feature-List", 3)]
        wish = Avp.of("Supported-Features", parts)
        for command, request in _requests(client).items():
            refused = await client.ask(_changed(request, wish._replace(flags=0xC0)))
            assert outcome(refused) == (5011, True), command
            assert hss.store.find("alice").scscf.name == b""
        for command in _requests(client):
            answer = await client.ask(_changed(_requests(client)[command], wish))
            (said,) = answer.find_all("Supported-Features")
            assert [avp.value for avp in said.children] == [10415, 1, 0], command
            assert outcome(answer) != (5011, True)


@in_loop
async def test_flags_of_every_avp_in_answers():
    """V and M stand as in table 6.3.1 of TS 29.229 and section 4.5 of RFC 6733."""
    without_m = {"Error-Message", "SIP-Digest-Authenticate", "Supported-Features", "Product-Name"}
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        answers = [await client.ask(request) for request in _requests(client).values()]
        answers += [
            await client.mar(USERS["dave"], scheme="Unknown"),
            await client.uar(ERIN),
            await client.lir("sip:nobody"),
        ]
        answers += [await client.lir(ALICE.impus[0]), await client.uar(FRANK), await client.lir(FRANK.impus[0])]
        seen = set()

        def look(avp: Avp) -> None:
            seen.add(avp.name)
            assert avp.vendor == (10415 if avp.code >= 600 else 0)
            assert avp.flags == (0x80 if avp.vendor else 0) | (0 if avp.name in without_m else 0x40), avp.name
            for child in avp.children:
                look(child)

        for answer in answers:
            for avp in answer.avps:
                look(avp)
        assert {"Server-Capabilities", "Server-Name", "User-Data", "SIP-Auth-Data-Item", "Digest-HA1"} < seen


@in_loop
async def test_what_answers_hold():
    """Each answer holds the common AVPs and these of its own, no more."""
    common = ["Session-Id", "Vendor-Specific-Application-Id", "Auth-Session-State", "Origin-Host", "Origin-Realm"]
    plain, of_3gpp = [*common, "Result-Code"], [*common, "Experimental-Result"]
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for request, wanted in (
            (client.uar(ALICE), [*of_3gpp, "Server-Capabilities"]),
            (client.uar(ERIN), of_3gpp),
            (
                client.mar(ALICE),
                [*plain, "User-Name", "Public-Identity", "SIP-Number-Auth-Items", "SIP-Auth-Data-Item"],
            ),
            (client.mar(ALICE, scheme="NASS-Bundled"), [*of_3gpp, "User-Name", "Public-Identity"]),
            (client.uar(ALICE), [*of_3gpp, "Server-Name"]),
            (client.sar(ALICE, 1), [*plain, "User-Name", "User-Data"]),
            (client.lir(ALICE.impus[0]), [*plain, "Server-Name"]),
            (client.uar(ALICE, kind=2), [*plain, "Server-Capabilities"]),
            (client.sar(ALICE, 5), [*plain, "User-Name"]),
            (client.lir(ALICE.impus[0]), of_3gpp),
            (client.lir(FRANK.impus[0]), [*of_3gpp, "Server-Capabilities"]),
        ):
            assert [avp.name for avp in (await request).avps] == wanted


# --- the connection ---


@in_loop
async def test_no_common_security():
    """A peer that wants TLS inside the connection gets 5017 and is let go; one that can do without is welcome."""
    async with running_hss() as hss:
        for wanted, result_code in (([1], 5017), ([0, 1], 2001), ([0], 2001)):
            client = CxClient(hss.diameter_port)
            await client.connect()
            request = cx.cer(client.host, REALM, "127.0.0.1")
            extra = [Avp.of("Inband-Security-Id", number) for number in wanted]
            cea = await client.ask(_changed(request, *extra))
            assert cea.find("Result-Code").value == result_code
            await client.close()


# --- UAR and LIR ---


@in_loop
async def test_emergency_registration():
    """Neither barring nor roaming stops an emergency registration (UAR-Flags, bit 0)."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        for user in (ERIN, GRACE):
            request = cx.uar(
                client.envelope(), user_name=user.impi, public_identity=user.impus[0], visited_network="far.away"
            )
            assert outcome(await client.ask(_changed(request, Avp.of("UAR-Flags", 1)))) == FIRST
            assert outcome(await client.uar(user)) != FIRST


@in_loop
async def test_unregistered_user_comes_or_goes():
    """An unregistered user's S-CSCF is named to one who registers (2002) and to one who leaves (2001)."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(FRANK, 3)
        for kind, result in ((0, SUBSEQUENT), (None, SUBSEQUENT), (1, SUCCESS)):
            uaa = await client.uar(FRANK, kind=kind)
            assert (outcome(uaa), uaa.find("Server-Name").value) == (result, SCSCF)


@in_loop
async def test_reassignment():
    """When an S-CSCF is dead: capabilities on demand, then a MAR and a SAR of another, which serves from then on."""
    other = f"sip:other.{REALM}:6060"
    async with running_hss() as hss:
        async with CxClient(hss.diameter_port) as dying:
            await dying.mar(ALICE)
            await dying.sar(ALICE, 1)
        async with CxClient(hss.diameter_port, "icscf") as icscf, CxClient(hss.diameter_port, "other") as alive:
            assert (await icscf.uar(ALICE)).find("Server-Name").value == SCSCF
            assert (await icscf.uar(ALICE, kind=2)).find("Server-Capabilities") is not None
            assert outcome(await alive.mar(ALICE, server=other)) == SUCCESS
            assert (await icscf.uar(ALICE)).find("Server-Name").value == other
            assert outcome(await alive.sar(ALICE, 1, other)) == SUCCESS
            assert (await icscf.lir(ALICE.impus[0])).find("Server-Name").value == other
            assert hss.store.find("alice").scscf.host.decode() == alive.host


@in_loop
async def test_unregistered_services_follow_the_profile():
    """LIA says 2003 where a criterion is for session case 2, or for the unregistered part of the profile."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        user = hss.store.find("alice")
        base = {"priority": 1, "server": "sip:as.example"}
        case = {"group": 0, "session_case": 2}
        for criterion, result in (
            (base, (5003, True)),
            (base | {"triggers": [case]}, (2003, True)),
            (base | {"triggers": [case | {"negated": True}]}, (5003, True)),
            (base | {"profile_part": 1}, (2003, True)),
            (base | {"profile_part": 0}, (5003, True)),
            (base | {"triggers": [{"group": 0, "session_case": 3}]}, (5003, True)),
        ):
            hss.store.change(user, {"ifc": [criterion]})
            assert outcome(await client.lir(ALICE.impus[0])) == result, criterion
        assert outcome(await client.lir(ALICE.impus[0], originating=True)) == (2003, True)


@in_loop
async def test_barred_identity_is_located():
    """LIR knows no barring: the S-CSCF finds it in the profile."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        hss.store.change(hss.store.find("alice"), {"barred_impus": [ALICE.impus[0]]})
        await client.sar(ALICE, 1, public_identities=ALICE.impus[1:2])
        assert outcome(await client.lir(ALICE.impus[0])) == SUCCESS


# --- RTR and PPR ---


@in_loop
async def test_frame_of_our_own_requests():
    """RTR and PPR carry what every Cx request carries, with R and P set and ids and Session-Ids of their own."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        user = hss.store.find("alice")
        sessions, held = set(), []
        for send in (hss.requests.push_profile, lambda user: hss.requests.terminate(user, 0, "")):
            await client.sar(ALICE, 1)
            asking = asyncio.create_task(send(user))
            request = await client.incoming.get()
            client.writer.write(cx.answer(request, client.host, REALM, cx.SUCCESS).to_bytes())
            await asking
            assert request.flags == 0xC0
            assert request.application_id == 16777216
            assert request.avps[0].name == "Session-Id"
            assert request.avps[0].value.startswith(HSS + ";")
            sessions.add((request.avps[0].value, request.hop_by_hop_id, request.end_to_end_id))
            group = request.find("Vendor-Specific-Application-Id")
            assert [avp.value for avp in group.children] == [10415, 16777216]
            assert request.find("Auth-Session-State").value == 1
            assert (request.find("Origin-Host").value, request.find("Origin-Realm").value) == (HSS, REALM)
            assert (request.find("Destination-Host").value, request.find("Destination-Realm").value) == (
                client.host,
                REALM,
            )
            assert request.find("User-Name").value == ALICE.impi
            held.append({avp.name for avp in request.avps[7:]})
        assert held == [{"User-Name", "User-Data"}, {"User-Name", "Public-Identity", "Deregistration-Reason"}]
        assert len(sessions) == 2


@in_loop
@pytest.mark.parametrize("reason", range(4))
async def test_every_deregistration_reason(reason):
    """Each Reason-Code is sent as asked; all but NEW_SERVER_ASSIGNED clear the registration on success."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        user = hss.store.find("alice")
        asking = asyncio.create_task(hss.requests.terminate(user, reason, ""))
        rtr = await client.incoming.get()
        group = rtr.find("Deregistration-Reason")
        assert [(avp.name, avp.value) for avp in group.children] == [("Reason-Code", reason)], "no empty Reason-Info"
        client.writer.write(cx.rta(rtr, client.host, REALM).to_bytes())
        await asking
        assert (user.state == "registered") == (reason == 1)


@in_loop
async def test_rtr_that_is_refused():
    """An RTA that is no success, plain or experimental, leaves the registration as it is."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        await client.sar(ALICE, 1)
        user = hss.store.find("alice")
        for result in (cx.UNABLE_TO_COMPLY, cx.USER_UNKNOWN):
            asking = asyncio.create_task(hss.requests.terminate(user, 0, ""))
            rtr = await client.incoming.get()
            client.writer.write(cx.rta(rtr, client.host, REALM, result).to_bytes())
            outcome_ = await asking
            assert (outcome_["result_code"], outcome_["experimental"]) == (result.code, result.experimental)
            assert user.state == "registered"


@in_loop
async def test_rtr_leaves_barred_identities_out():
    """A barred identity is never registered, so RTR does not name it."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as client:
        user = hss.store.find("alice")
        hss.store.change(user, {"barred_impus": [ALICE.impus[0]]})
        await client.sar(ALICE, 1)
        asking = asyncio.create_task(hss.requests.terminate(user, 0, ""))
        rtr = await client.incoming.get()
        assert [avp.value for avp in rtr.find_all("Public-Identity")] == list(ALICE.impus[1:])
        client.writer.write(cx.rta(rtr, client.host, REALM).to_bytes())
        await asking
