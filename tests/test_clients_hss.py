"""The HSS's admin door and its typed client, over real sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import xml.etree.ElementTree as ElementTree

import pytest
from cx_client import REALM, SCSCF, USERS, CxClient, outcome, running_hss
from in_loop import in_loop

from labkit.clients.hss import HssClient
from labkit.errors import LabkitError, StackError
from labkit.peers.hss.criteria import FilterCriterion, ServicePointTrigger
from labkit.wire import cx

ALICE = USERS["alice"]


class _Threaded:
    """Awaitable calls of a blocking client, so that the HSS can run in the same test."""

    def __init__(self, client: HssClient) -> None:
        self._client = client

    def __getattr__(self, name):
        return lambda *args, **more: asyncio.to_thread(getattr(self._client, name), *args, **more)


async def _raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@in_loop
async def test_listing():
    """All subscribers are listed in order, one is found by any of its names."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        listed = await client.subscribers()
        assert [entry.name for entry in listed][:3] == ["alice", "bob", "carol"]
        await cscf.sar(ALICE, 1)
        for name in ("alice", ALICE.impi, *ALICE.impus):
            alice = await client.subscriber(name)
            assert (alice.name, alice.state) == ("alice", "registered")
        assert (alice.scscf_name, alice.scscf_host) == (SCSCF, cscf.host)
        assert alice.impus == ALICE.impus
        assert alice.provisioned["k"] == ALICE.k.hex()
        assert "<IMSSubscription>" in alice.profile
        json.dumps(dataclasses.asdict(alice))
        with pytest.raises(LabkitError, match="404"):
            await client.subscriber("nobody")


@in_loop
async def test_peers():
    """Connected CSCFs are listed with name and state."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        (peer,) = await client.peers()
        assert (peer.host, peer.realm, peer.address, peer.state) == (cscf.host, REALM, "127.0.0.1", "open")


@in_loop
async def test_deregister():
    """deregister sends RTR and tells the answer; nobody registered is refused with a sentence."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        with pytest.raises(LabkitError, match="not registered"):
            await client.deregister("alice")
        await cscf.sar(ALICE, 1)
        asking = asyncio.create_task(client.deregister("alice", reason=2, text="bye"))
        rtr = await cscf.incoming.get()
        assert rtr.find("Deregistration-Reason").find("Reason-Code").value == 2
        cscf.writer.write(cx.rta(rtr, cscf.host, REALM).to_bytes())
        result = await asking
        assert (result.command, result.answered, result.result_code) == ("RTR", True, 2001)
        assert (result.result, result.peer) == ("DIAMETER_SUCCESS", cscf.host)
        assert "waited_ms" not in repr(result)
        assert (await client.subscriber("alice")).state == "not_registered"
        with pytest.raises(LabkitError, match="reason is 9"):
            await client.deregister("alice", reason=9)


@in_loop
async def test_profile_and_push():
    """set_profile changes what the next SAA carries; push_profile sends it and tells of a refusal."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        ifc = {"priority": 7, "server": "sip:as.example", "triggers": [{"group": 0, "method": "INVITE"}]}
        changed = await client.set_profile("alice", [ifc])
        assert "sip:as.example" in changed.profile
        assert b"sip:as.example" in (await cscf.sar(ALICE, 1)).find(606, 10415).value
        asking = asyncio.create_task(client.push_profile("alice"))
        ppr = await cscf.incoming.get()
        result = cx.Result(5009, True)
        cscf.writer.write(cx.ppa(ppr, cscf.host, REALM, result).to_bytes())
        pushed = await asking
        assert (pushed.result_code, pushed.experimental) == (5009, True)
        assert pushed.result == "DIAMETER_ERROR_NOT_SUPPORTED_USER_DATA"


@in_loop
async def test_typed_profile():
    """A profile of typed criteria says all that annex B.2 can, and restore_subscriber takes it back."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        await cscf.sar(ALICE, 1)
        triggers = (
            ServicePointTrigger((0, 1), method="REGISTER", registration_types=(0, 2)),
            ServicePointTrigger((1,), header="Recv-Info", header_content=".*", negated=True),
            ServicePointTrigger((2,), session_case=4),
        )
        criterion = FilterCriterion(3, "sip:as.example", triggers, False, 1, "hello", 0)
        changed = await client.set_profile("alice", [criterion])
        root = ElementTree.fromstring(changed.profile).find("ServiceProfile/InitialFilterCriteria")
        assert [child.tag for child in root] == [
            "Priority",
            "TriggerPoint",
            "ApplicationServer",
            "ProfilePartIndicator",
        ]
        assert root.findtext("ProfilePartIndicator") == "0"
        assert root.findtext("TriggerPoint/ConditionTypeCNF") == "0"
        spts = root.findall("TriggerPoint/SPT")
        assert [child.tag for child in spts[0]] == ["ConditionNegated", "Group", "Group", "Method", "Extension"]
        assert [one.text for one in spts[0].iter("RegistrationType")] == ["0", "2"]
        assert spts[1].findtext("ConditionNegated") == "1"
        assert spts[2].findtext("SessionCase") == "4"
        assert root.findtext("ApplicationServer/ServiceInfo") == "hello"
        for table in (changed.provisioned["ifc"], [criterion]):
            assert (await client.set_profile("alice", table)).profile == changed.profile
        restored = await client.restore_subscriber("alice")
        assert ("InitialFilterCriteria" in restored.profile, restored.state) == (False, "registered")


@in_loop
@pytest.mark.parametrize(
    ("ifc", "sentence"),
    [
        ({"priority": 1}, "'server'"),
        ({"priority": 1, "server": "sip:x", "colour": 1}, "unknown keys colour"),
        ({"priority": 1, "server": "sip:x", "default_handling": 2}, "default_handling is 2"),
        ({"priority": 1, "server": "sip:x", "profile_part": 2}, "profile_part is 2"),
        ({"priority": 1, "server": "sip:x", "triggers": [{"group": 1}]}, "exactly one of"),
        ({"priority": 1, "server": "sip:x", "triggers": [{"method": "A", "header": "B"}]}, "exactly one of"),
        ({"priority": 1, "server": "sip:x", "triggers": [{"session_case": 5}]}, "session_case is 5"),
        ({"priority": 1, "server": "sip:x", "triggers": [{"metod": "A"}]}, "unknown keys metod"),
    ],
)
async def test_profile_that_cannot_be(ifc, sentence):
    """A wrong criterion is refused with a sentence, and the profile stays."""
    async with running_hss() as hss:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        with pytest.raises(LabkitError, match=sentence):
            await client.set_profile("alice", [ifc])
        assert "InitialFilterCriteria" not in (await client.subscriber("alice")).profile


@in_loop
async def test_assigning_by_hand():
    """assign names any S-CSCF, alive or not; UAA and LIA send there; nobody is told."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        there = await client.assign("alice", "sip:dead.example:6060")
        assert (there.state, there.scscf_name) == ("registered", "sip:dead.example:6060")
        assert (await cscf.lir(ALICE.impus[0])).find("Server-Name").value == "sip:dead.example:6060"
        assert (await client.assign("alice", SCSCF, state="unregistered")).state == "unregistered"
        assert (await cscf.uar(ALICE)).find("Server-Name").value == SCSCF
        with pytest.raises(LabkitError, match="do not fit"):
            await client.assign("alice", "")
        assert (await client.reset_subscriber("alice")).scscf_name == ""


@in_loop
async def test_deregister_some_identities():
    """RTR may name one identity or none; another's is refused; the registration goes as a whole."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        for identities in ([ALICE.impus[2]], []):
            await cscf.sar(ALICE, 1)
            asking = asyncio.create_task(client.deregister("alice", identities=identities))
            rtr = await cscf.incoming.get()
            assert [avp.value for avp in rtr.find_all("Public-Identity")] == identities
            assert rtr.find("User-Name").value == ALICE.impi
            cscf.writer.write(cx.rta(rtr, cscf.host, REALM).to_bytes())
            assert (await asking).result_code == 2001
            assert (await client.subscriber("alice")).state == "not_registered"
        await cscf.sar(ALICE, 1)
        with pytest.raises(LabkitError, match="none of alice's"):
            await client.deregister("alice", identities=["sip:bob"])


@in_loop
async def test_capabilities_at_run_time():
    """Capabilities and hints that were changed are in the next UAA and LIA."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        await client.update_subscriber(
            "frank", mandatory_capabilities=[2, 7], optional_capabilities=[], server_names=["sip:two.{realm}:6060"]
        )
        wanted = [
            ("Mandatory-Capability", 2),
            ("Mandatory-Capability", 7),
            ("Server-Name", f"sip:two.{REALM}:6060"),
        ]
        for answer in (await cscf.uar(USERS["frank"]), await cscf.lir(USERS["frank"].impus[0])):
            assert [(avp.name, avp.value) for avp in answer.find("Server-Capabilities").children] == wanted


@in_loop
async def test_changing_people():
    """Subscribers are added, changed, removed and reset, and the Diameter side sees it at once."""
    async with running_hss() as hss, CxClient(hss.diameter_port) as cscf:
        client = _Threaded(HssClient(f"http://127.0.0.1:{hss.admin_port}"))
        await client.update_subscriber("alice", barred=True)
        assert outcome(await cscf.uar(ALICE)) == (5003, False)
        await client.update_subscriber("alice", barred=False, visited_networks=["elsewhere"])
        assert outcome(await cscf.uar(ALICE)) == (5004, True)
        zoe = await client.add_subscriber(name="zoe", impi="zoe", impus=["sip:zoe"], auth="digest", password="x")
        assert zoe.impus == (f"sip:zoe@{REALM}",)
        assert outcome(await cscf.lir(f"sip:zoe@{REALM}")) == (5003, True)
        with pytest.raises(LabkitError, match="exists already"):
            await client.add_subscriber(name="zoe", impi="z", impus=["sip:z"], auth="digest", password="x")
        with pytest.raises(LabkitError, match="colour"):
            await client.update_subscriber("alice", colour="red")
        await client.remove_subscriber("zoe")
        assert outcome(await cscf.lir(f"sip:zoe@{REALM}")) == (5001, True)
        await cscf.sar(USERS["bob"], 1)
        assert (await client.reset_subscriber("bob")).state == "not_registered"
        await client.reset()
        assert outcome(await cscf.uar(ALICE)) == (2001, True)


@in_loop
async def test_token():
    """Without the right token the door says 401 and does nothing."""
    async with running_hss(token="secret") as hss:
        url = f"http://127.0.0.1:{hss.admin_port}"
        for token in ("", "wrong", "secret "):
            client = _Threaded(HssClient(url, token.strip() + "x" if token.endswith(" ") else token))
            with pytest.raises(LabkitError, match="401"):
                await client.reset()
        assert await _Threaded(HssClient(url, "secret")).subscribers()


@in_loop
async def test_nobody_there():
    """A door that does not answer, or is no HSS, is a StackError with a hint."""
    async with running_hss() as hss:
        port = hss.admin_port
    with pytest.raises(StackError, match="lab up"):
        HssClient(f"http://127.0.0.1:{port}").subscribers()


@in_loop
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /subscribers HTTP/1.1\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /nothing HTTP/1.0\r\n\r\n", b"404"),
        (b"PUT /subscribers HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /subscribers/alice/dance HTTP/1.0\r\n\r\n", b"404"),
        (b"POST /subscribers HTTP/1.0\r\nContent-Length: 3\r\n\r\n{x}", b"400"),
        (b"POST /subscribers HTTP/1.0\r\nContent-Length: 2\r\n\r\n[]", b"400"),
        (b"POST /subscribers HTTP/1.0\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /subscribers HTTP/1.0\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST /subscribers HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"hello\r\n\r\n", b"400"),
    ],
)
async def test_http_by_hand(request_bytes, status):
    """Requests that a browser or a mistaken program sends get the right status."""
    async with running_hss() as hss:
        answer = await _raw(hss.admin_port, request_bytes)
        assert answer.split(b" ", 2)[1] == status
        body = answer.partition(b"\r\n\r\n")[2]
        assert int(answer.partition(b"Content-Length: ")[2].split(b"\r\n")[0]) == len(body)
        json.loads(body)


@in_loop
async def test_http_answer_is_heard():
    """Who sends a body that is too large hears so, although nobody reads it."""
    async with running_hss() as hss:
        head = b"POST /subscribers HTTP/1.1\r\nContent-Length: 900000\r\nConnection: close\r\n\r\n"
        assert b"413" in (await _raw(hss.admin_port, head + b"x" * 900_000)).split(b"\r\n")[0]


@in_loop
async def test_http_garbage():
    """Garbage, endless headers and half a request end their connection and nothing else."""
    async with running_hss() as hss:
        assert await _raw(hss.admin_port, b"x" * 200_000) == b""
        _, writer = await asyncio.open_connection("127.0.0.1", hss.admin_port)
        writer.write(b"GET /subs")
        await writer.drain()
        writer.close()
        assert b"200 OK" in await _raw(hss.admin_port, b"GET /peers HTTP/1.0\r\n\r\n")


@in_loop
async def test_http_keeps_the_connection():
    """Several requests on one connection are answered in order."""
    async with running_hss() as hss:
        one = b"GET /peers HTTP/1.1\r\n\r\n"
        answer = await _raw(hss.admin_port, one + one + b"GET /peers HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.count(b"200 OK") == 3
