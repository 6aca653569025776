"""The state file of the HSS: a restart loses nothing, whether it was stopped or killed."""

from __future__ import annotations

import pytest
from cx_client import REALM, SCSCF, SUBSCRIBERS, USERS, CxClient, running_hss
from in_loop import in_loop

from labkit.errors import LabkitError, StackError, TopologyError
from labkit.peers.hss import state as state_module
from labkit.peers.hss.state import Store
from labkit.peers.hss.user import NOT_REGISTERED, REGISTERED, UNREGISTERED, Scscf

ALICE, BOB = USERS["alice"], USERS["bob"]
OURS = Scscf(SCSCF.encode(), b"scscf.x", b"x")


def _copy_of(path, tmp_path):
    """Copy the file as a killed process leaves it, without closing the store."""
    for ending in ("", "-wal"):
        source = path.with_name(path.name + ending)
        if source.exists():
            (tmp_path / f"copy.sqlite{ending}").write_bytes(source.read_bytes())
    return Store(tmp_path / "copy.sqlite", SUBSCRIBERS, REALM)


def test_stop_and_start(tmp_path):
    """State, S-CSCF, pending name and the exact SQN are there after a clean stop."""
    path = tmp_path / "hss.sqlite"
    store = Store(path, SUBSCRIBERS, REALM)
    alice, bob = store.find("alice"), store.find("bob")
    alice.assign(OURS)
    alice.state, alice.sqn = REGISTERED, 99
    bob.assign(OURS._replace(name=b"sip:new"))
    bob.previous, bob.pending, bob.state = OURS, True, UNREGISTERED
    for user in (alice, bob):
        store.touch(user)
    store.flush()
    alice.sqn = 132
    store.close()
    again = Store(path, SUBSCRIBERS, REALM)
    alice, bob = again.find("alice"), again.find("bob")
    assert (alice.state, alice.sqn, alice.scscf, alice.pending) == (REGISTERED, 132, OURS, False)
    assert (bob.state, bob.pending, bob.previous, bob.scscf.name) == (UNREGISTERED, True, OURS, b"sip:new")
    assert alice.server_name_avp
    assert again.find("carol").state == NOT_REGISTERED
    again.close()


def test_kill(tmp_path):
    """After a kill everything flushed is there, and SQN goes on above anything that was given out."""
    path = tmp_path / "hss.sqlite"
    store = Store(path, SUBSCRIBERS, REALM)
    alice = store.find("alice")
    alice.assign(OURS)
    alice.state = REGISTERED
    for sqn in range(33, 33 * 200, 33):
        alice.sqn = sqn
        if alice.sqn > alice.sqn_kept:
            store.touch(alice)
        store.flush()
        if sqn % 330 == 0:
            again = _copy_of(path, tmp_path)
            survivor = again.find("alice")
            assert (survivor.state, survivor.scscf) == (REGISTERED, OURS)
            assert sqn <= survivor.sqn <= sqn + state_module.SQN_AHEAD
            again.close()
    store.close()


@in_loop
async def test_kill_between_answers(tmp_path):
    """Whatever answer a CSCF has seen, the file knows of it already."""
    path = tmp_path / "hss.sqlite"
    async with running_hss(state=str(path)) as hss, CxClient(hss.diameter_port) as client:
        await client.mar(ALICE)
        again = _copy_of(path, tmp_path)
        assert again.find("alice").pending
        assert again.find("alice").sqn >= hss.store.find("alice").sqn
        again.close()
        await client.sar(ALICE, 1)
        again = _copy_of(path, tmp_path)
        assert again.find("alice").state == REGISTERED
        again.close()
        await client.sar(ALICE, 5)
        again = _copy_of(path, tmp_path)
        assert again.find("alice").scscf.name == b""
        again.close()


@in_loop
async def test_restart_of_the_hss(tmp_path):
    """A restarted HSS answers as if nothing had happened."""
    path = str(tmp_path / "hss.sqlite")
    async with running_hss(state=path) as hss, CxClient(hss.diameter_port) as client:
        await client.mar(ALICE)
        await client.sar(ALICE, 1)
    async with running_hss(state=path) as hss, CxClient(hss.diameter_port) as client:
        assert (await client.lir(ALICE.impus[1])).find("Server-Name").value == SCSCF


def test_sim_without_a_subscription():
    """Somebody who has a SIM but is not provisioned is unknown to the HSS."""
    store = Store(":memory:", SUBSCRIBERS, REALM)
    assert store.find("mallory") is None
    assert store.find_impu(USERS["mallory"].impus[0].encode()) is None
    store.close()


def test_two_on_one_file(tmp_path):
    """A second HSS on the same file is refused with a sentence."""
    store = Store(tmp_path / "hss.sqlite", SUBSCRIBERS, REALM)
    with pytest.raises(StackError, match="another HSS"):
        Store(tmp_path / "hss.sqlite", SUBSCRIBERS, REALM)
    store.close()


def test_broken_file(tmp_path):
    """A file that is no database is refused with a sentence."""
    (tmp_path / "hss.sqlite").write_text("no database at all, but long enough to be looked at " * 20)
    with pytest.raises(StackError, match="remove the file"):
        Store(tmp_path / "hss.sqlite", SUBSCRIBERS, REALM)


def test_changes_survive(tmp_path):
    """Added, changed and removed subscribers stay so over a restart, and go with a reset."""
    path = tmp_path / "hss.sqlite"
    store = Store(path, SUBSCRIBERS, REALM)
    store.change(store.find("alice"), {"barred": True, "ifc": [{"priority": 1, "server": "sip:as"}], "sqn": "ff"})
    store.remove(store.find("bob"))
    fields = {"name": "zoe", "impi": "zoe", "impus": ["sip:zoe"], "auth": "digest", "password": "x"}
    store.add(state_module.subscriber_from_fields(fields, REALM, "test"), fields)
    store.close()
    again = Store(path, SUBSCRIBERS, REALM)
    alice = again.find("alice")
    assert alice.subscriber.barred
    assert not alice.registrable
    assert b"sip:as" in alice.user_data_avp
    assert alice.sqn == 255
    assert again.find("bob") is None
    assert again.find_impu(BOB.impus[0].encode()) is None
    assert again.find(f"sip:zoe@{REALM}").subscriber.password == "x"
    again.reset()
    assert again.find("zoe") is None
    assert again.find("bob") is not None
    assert not again.find("alice").subscriber.barred
    again.close()


def test_subscriber_gone_from_the_file(tmp_path):
    """State of somebody who is no longer provisioned is dropped."""
    path = tmp_path / "hss.sqlite"
    Store(path, SUBSCRIBERS, REALM).close()
    store = Store(path, SUBSCRIBERS[:1], REALM)
    assert [user.subscriber.name for user in store.users()] == ["alice"]
    store.close()
    store = Store(path, SUBSCRIBERS, REALM)
    assert store.find("bob").row_id
    store.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"impi": "other"},
        {"name": "bob"},
        {"impus": ["sip:bob"]},
        {"colour": "red"},
        {"k": "00"},
        {"impus": []},
    ],
)
def test_changes_that_cannot_be(fields):
    """A wrong change is refused and changes nothing."""
    store = Store(":memory:", SUBSCRIBERS, REALM)
    alice = store.find("alice")
    with pytest.raises((LabkitError, TopologyError)):
        store.change(alice, fields)
    assert alice.subscriber == ALICE
    assert store.find("sip:alice@" + REALM) is alice
    store.close()


def test_adding_somebody_twice():
    """An identity that is taken is named."""
    store = Store(":memory:", SUBSCRIBERS, REALM)
    with pytest.raises(LabkitError, match="alice exists already"):
        store.add(ALICE, {})
    store.close()


def test_scscfs_do_not_pile_up():
    """Ever new names of S-CSCFs are forgotten when nobody is assigned to them."""
    store = Store(":memory:", SUBSCRIBERS, REALM)
    alice = store.find("alice")
    for number in range(2000):
        alice.assign(Scscf(b"sip:%d" % number, b"h", b"r"))
        store.touch(alice)
        store.flush()
    assert len(store._scscf_ids) <= state_module._MAX_SCSCFS
    count = store._database.execute("SELECT count(*) FROM scscf").fetchone()[0]
    assert count <= state_module._MAX_SCSCFS
    store.close()
