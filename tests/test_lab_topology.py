"""docker/lab.toml: read, checked, rendered."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.errors import TopologyError
from labkit.lab.templates import Places, placeholders, render, render_command, render_files
from labkit.lab.topology import External, Topology, default_path, external_hss, load_topology

SMALL = """
[lab]
realm = "example.test"
[image.one]
folder = "one"
[node.alpha]
image = "one"
host = 10
ports = {{ sip = "5060/udp+tcp" }}
command = ["run"]
{extra}
"""


def small(tmp_path: Path, extra: str = "") -> Topology:
    """A topology of one node, with more lines in its section."""
    path = tmp_path / "lab.toml"
    path.write_text(SMALL.format(extra=extra))
    return load_topology(path)


def places(**changes: object) -> Places:
    fields = {
        "addresses": {"hss": "127.9.9.10", "pcscf": "127.9.9.13"},
        "own_address": "127.9.9.13",
        "conf_dir": "/c",
        "run_dir": "/r",
        "state_dir": "/s",
        "programs": {
            "kamailio": "/usr/sbin/kamailio",
            "python": "/usr/bin/python3",
            "cgrates": "/usr/bin/cgr-engine",
            "postgres": "/usr/bin/postgres",
            "postgres_files": "/usr/share/lab/postgres",
        },
        "hss_peer": "127.9.9.10",
    }
    return Places(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_real_topology_holds_the_spine() -> None:
    """The project's own lab.toml has the nodes, ports and realm that everything else is written for."""
    topology = load_topology()
    assert topology.realm == "ims.mnc001.mcc001.3gppnetwork.org"
    assert set(topology.default) == {"hss", "icscf", "scscf", "pcscf"}
    assert topology.nodes["proxy"].optional
    ports = {node.name: {p.name: str(p) for p in node.ports.values()} for node in topology.nodes.values()}
    assert ports["hss"] == {"diameter": "3868/tcp", "admin": "8380/tcp"}
    assert ports["icscf"] == {"sip": "4060/udp+tcp", "diameter": "3869/tcp"}
    assert ports["scscf"] == {"sip": "6060/udp+tcp", "diameter": "3870/tcp"}
    assert ports["pcscf"] == {"sip": "5060/udp+tcp"}
    assert topology.fqdn("scscf") == "scscf.ims.mnc001.mcc001.3gppnetwork.org"


def test_every_template_of_the_real_topology_renders_with_and_without_mirror() -> None:
    """No placeholder in any shipped command or template is unknown, in either kind of capture."""
    topology = load_topology()
    for mirror in ("", "127.9.9.2:9060"):
        for node in topology.nodes.values():
            here = places(mirror=mirror)
            assert "@@" not in " ".join(render_command(topology, node, here))
            for out, text in render_files(topology, node, here).items():
                assert not re.search(r"@@([A-Za-z!])", text), out


def test_the_hss_starts_before_the_nodes_that_connect_to_it() -> None:
    """Start order follows 'after', and nodes that do not depend on each other start together."""
    topology = load_topology()
    waves = topology.waves(topology.default)
    assert waves == [("hss",), ("icscf", "scscf", "pcscf")]
    assert topology.waves(("icscf",)) == [("icscf",)]


def test_placeholders_name_addresses_ports_and_programs() -> None:
    """A node's table of names holds its own, every other node's, and the programs."""
    topology = load_topology()
    values = placeholders(topology, topology.node("pcscf"), places(mirror="127.9.9.2:9060", token="t"))
    assert values["OWN_HOST"] == "pcscf." + topology.realm
    assert values["HSS_ADDRESS"] == "127.9.9.10"
    assert values["SCSCF_SIP_PORT"] == "6060"
    assert values["OWN_SIP_PORT"] == "5060"
    assert values["KAMAILIO"] == "/usr/sbin/kamailio"
    assert (values["MIRROR_ADDRESS"], values["MIRROR_PORT"], values["TOKEN"]) == ("127.9.9.2", "9060", "t")


def test_the_mirror_changes_the_command_only_where_it_is_on() -> None:
    """Arguments for the mirror are added where messages are mirrored."""
    topology = load_topology()
    hss = topology.node("hss")
    assert "--mirror" not in render_command(topology, hss, places())
    assert render_command(topology, hss, places(mirror="127.9.9.2:9060"))[-2:] == ["--mirror", "127.9.9.2:9060"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a @@X@@ b", "a 1 b"),
        ("#@@if X\nyes\n#@@endif\nend\n", "yes\nend\n"),
        ("#@@if EMPTY\nyes @@NOBODY@@\n#@@endif\nend\n", "end\n"),
        ("#@@if !EMPTY\nyes\n#@@endif\n", "yes\n"),
        ("<!--@@if X-->\n<p/>\n<!--@@endif-->\n", "<p/>\n"),
        ("  #@@if X\n#@@if EMPTY\nno\n#@@endif\nyes\n  #@@endif\n", "yes\n"),
        ("#!define X @not@@", "#!define X @not@@"),
        ("last line without end", "last line without end"),
    ],
)
def test_render_fills_in_and_drops(text: str, expected: str) -> None:
    """Placeholders are filled in, and blocks whose condition fails go away with all that is in them."""
    assert render(text, {"X": "1", "EMPTY": ""}, "here") == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("one\n@@NOBODY@@\n", r"here line 2: unknown placeholder @@NOBODY@@"),
        ("#@@if NOBODY\n#@@endif\n", "here line 1: unknown name 'NOBODY'"),
        ("#@@endif\n", "without '@@if'"),
        ("#@@if X\n", "without '@@endif'"),
    ],
)
def test_render_names_the_line_that_is_wrong(text: str, complaint: str) -> None:
    """A mistake in a template is an error with file and line, never an empty string in a configuration."""
    with pytest.raises(TopologyError, match=complaint):
        render(text, {"X": "1"}, "here")


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("colour = 'red'", "has 'colour'"),
        ("after = ['beta']", "refers to node 'beta'"),
        ("after = ['alpha']", "circle"),
        ("program = 'kamailio'", r"no \[program.kamailio\]"),
        ("ready = [{ kind = 'sleep' }]", "ready kind 'sleep'"),
        ("ready = [{ kind = 'tcp', port = 'admin' }]", "has no port 'admin'"),
        ("ready = [{ port = 'sip' }]", "without kind"),
        ("ready = [{ kind = 'tcp', port = 'sip', patience = 3 }]", "has 'patience'"),
        ("version_pattern = '('", "version_pattern"),
        ("version_pattern = 'x'", "needs a group"),
        ("templates = { '../out' = 'in' }", "below CONF_DIR"),
        ("optional = 'no'", "optional = true or false"),
        ("after = 'hss'", "a list of texts"),
        ("[node.Beta]\nimage = 'one'\nhost = 11", "a name is"),
        ("[node.beta]\nimage = 'one'\nhost = 10", "same host = 10"),
        ("[node.beta]\nimage = 'one'\nhost = 200", "host = 3 to 100"),
        ("[node.beta]\nimage = 'two'\nhost = 11", "image 'two'"),
        ("[node.beta]\nhost = 11", "needs image"),
        ("[node.beta]\nimage = 'one'\nhost = 11\nports = { sip = '5060' }", "write for example"),
        ("[node.beta]\nimage = 'one'\nhost = 11\nports = { sip = '70000/udp' }", "write for example"),
        ("[lap]\n", "has 'lap'"),
        ("= 3", "is no TOML"),
    ],
)
def test_a_wrong_topology_is_refused_with_its_place(tmp_path: Path, extra: str, complaint: str) -> None:
    """Each mistake in lab.toml is a TopologyError that names the section and the key."""
    with pytest.raises(TopologyError, match=complaint):
        small(tmp_path, extra)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A missing lab.toml or template is a TopologyError with its path."""
    with pytest.raises(TopologyError, match="cannot read"):
        load_topology(tmp_path / "none.toml")
    topology = small(tmp_path, "templates = { 'a.cfg' = 'none.cfg' }")
    with pytest.raises(TopologyError, match=r"none\.cfg"):
        render_files(topology, topology.node("alpha"), places(addresses={}))


def test_unknown_names_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    """Asking for a node or port that is not there lists those that are."""
    topology = small(tmp_path)
    with pytest.raises(TopologyError, match="has alpha"):
        topology.node("gamma")
    with pytest.raises(TopologyError, match="has sip"):
        topology.node("alpha").port("admin")


# ---- nodes that others run ------------------------------------------------------------------------------------------
def test_an_external_hss_is_named_in_the_file_or_the_environment(tmp_path: Path) -> None:
    """Address, port and realm; the port and the realm may be left out; nothing of it is started here."""
    text = default_path().read_text().replace("# external = {", "external = {")
    (tmp_path / "lab.toml").write_text(text)
    named = load_topology(tmp_path / "lab.toml")
    assert named.node("hss").external == External("192.0.2.7", 3868, "ims.example.org")
    assert named.own(named.default) == ("icscf", "scscf", "pcscf")
    plain = load_topology()
    assert external_hss(plain, "") is plain
    assert external_hss(plain, "192.0.2.9").node("hss").external == External("192.0.2.9", 3868, plain.realm)
    found = external_hss(plain, "192.0.2.9:3869,example.org").node("hss").external
    assert found == External("192.0.2.9", 3869, "example.org")


@pytest.mark.parametrize("text", ["hss.example.org", "192.0.2.9:x", "192.0.2.9:0", "192.0.2.9:70000", ","])
def test_an_external_hss_needs_an_address(text: str) -> None:
    """Names would be resolved by Kamailio's Diameter module, past the lab's own names: only addresses are taken."""
    with pytest.raises(TopologyError, match="LABKIT_HSS"):
        external_hss(load_topology(), text)


@pytest.mark.parametrize(
    ("own", "external", "source"),
    [
        ("127.9.9.11", "127.0.0.5", 'src_addr="127.9.9.11"'),
        ("127.9.9.11", "192.0.2.9", ""),
        ("172.20.0.11", "192.0.2.9", 'src_addr="172.20.0.11"'),
    ],
)
def test_the_cscfs_connect_to_the_external_hss(own: str, external: str, source: str) -> None:
    """Its address, port and realm in cdp.xml; from loopback a program cannot reach the world by its own address."""
    topology = external_hss(load_topology(), f"{external}:3901,example.org")
    here = replace(places(), own_address=own, addresses={"hss": external}, hss_peer=external)
    text = render_files(topology, topology.node("icscf"), here)["cdp.xml"]
    (peer,) = [line for line in text.splitlines() if line.strip().startswith("<Peer ")]
    assert f'FQDN="{external}" Realm="example.org" port="3901"' in peer
    assert (source in peer) if source else ("src_addr" not in peer)
    config = render_files(topology, topology.node("scscf"), here)["kamailio.cfg"]
    assert '"cxdx_dest_realm", "example.org"' in config
    assert f'"sip:scscf.{topology.realm}:6060"' in config
