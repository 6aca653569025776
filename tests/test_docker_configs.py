"""The configs of the lab's nodes, without starting them: placeholders, loaded modules, and text fit to be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import pytest

from labkit.lab.templates import Places, render_command, render_files
from labkit.lab.topology import NodeSpec, Topology, load_topology

KAMAILIO_NODES = ("pcscf", "icscf", "scscf", "scscf2", "proxy", "prepaid", "ussd")
MODULE_OF_FUNCTION = {
    "t_relay": "tm", "t_reply": "tm", "t_newtran": "tm", "t_check_trans": "tm", "t_on_failure": "tm", "t_set_fr": "tm",
    "t_is_canceled": "tmx", "t_branch_timeout": "tm", "sl_send_reply": "sl", "loose_route": "rr", "record_route": "rr",
    "mf_process_maxfwd_header": "maxfwd", "append_hf": "textops", "remove_hf": "textops", "remove_hf_re": "textops",
    "subst_hf": "textops", "in_list": "textops", "msg_apply_changes": "textopsx", "has_totag": "siputils",
    "sht_rm": "htable", "xlog": "xlog", "is_method": "textops", "append_branch": "corex", "usleep": "cfgutils",
    "cdp_check_peer": "cdp", "lookup": "ims_registrar_scscf", "save": "ims_registrar_scscf", "sbranch_reset": "pv",
    "ims_www_authenticate": "ims_auth", "isc_match_filter": "ims_isc", "I_scscf_select": "ims_icscf",
    "dlg_manage": "dialog", "evapi_relay": "evapi", "jansson_get": "jansson", "jsonrpc_exec": "jsonrpcs",
    "t_continue": "tmx", "t_uac_send": "tm", "append_to_reply": "textops", "get_body_part": "textops",
    "sht_rm_name_re": "htable", "uac_req_send": "uac",
}  # fmt: skip
"""Which module each function that the configs call comes from."""
ALONE = {
    "ctl",
    "kex",
    "debugger",
    "siptrace",
    "db_text",
    "cdp_avp",
    "presence",
    "ims_dialog",
    "ims_usrloc_scscf",
    "xmlops",
}
"""Modules that are loaded for what they are, not for a function that the script calls."""


@pytest.fixture(scope="module")
def topology() -> Topology:
    """docker/lab.toml."""
    return load_topology()


def rendered(topology: Topology, name: str, *, mirror: str = "", modules_dir: str = "") -> Mapping[str, str]:
    """A node's files as an engine writes them."""
    addresses = {node.name: f"127.9.9.{node.host}" for node in topology.nodes.values()}
    places = Places(
        addresses=addresses,
        own_address=addresses[name],
        conf_dir="/conf",
        run_dir="/run/x",
        state_dir="/state",
        programs={"kamailio": "kamailio", "python": "python"},
        hss_peer=addresses["hss"],
        mirror=mirror,
        modules_dir=modules_dir,
        token="secret",
    )
    render_command(topology, topology.node(name), places)
    return render_files(topology, topology.node(name), places)


def code_of(text: str) -> str:
    """A Kamailio config without comments."""
    return "\n".join(re.sub(r"(^|\s)#(?!!).*$", r"\1", line) for line in text.splitlines())


def kamailio_nodes(topology: Topology) -> list[NodeSpec]:
    """The nodes that run Kamailio."""
    return [node for node in topology.nodes.values() if node.program == "kamailio"]


def test_every_kamailio_node_is_checked_here(topology: Topology) -> None:
    """A new Kamailio node is added to these tests as well."""
    assert sorted(node.name for node in kamailio_nodes(topology)) == sorted(KAMAILIO_NODES)


@pytest.mark.parametrize("mirror", ["", "127.9.9.2:9060"])
@pytest.mark.parametrize("modules_dir", ["", "/modules"])
@pytest.mark.parametrize("name", KAMAILIO_NODES)
def test_every_placeholder_is_known(topology: Topology, name: str, mirror: str, modules_dir: str) -> None:
    """Templates render in every combination, and nothing of the template language is left."""
    for path, text in rendered(topology, name, mirror=mirror, modules_dir=modules_dir).items():
        assert "@@" not in text, path
        assert ("siptrace" in text) is bool(mirror and path == "kamailio.cfg"), path
        assert ("mpath" in text) is bool(modules_dir and path == "kamailio.cfg"), path


@pytest.mark.parametrize("name", KAMAILIO_NODES)
def test_no_path_or_address_is_fixed(topology: Topology, name: str) -> None:
    """Configs name no folder and no address of their own: two labs run side by side."""
    for path, source in topology.node(name).templates.items():
        text = code_of(source.read_text(encoding="utf-8"))
        assert re.findall(r"\b\d{1,3}(?:\.\d{1,3}){3}\b", text) == [], path
        assert re.findall(r"[\"':]/(?:tmp|var|run|etc|usr)/\S*", text) == [], path


@pytest.mark.parametrize("name", KAMAILIO_NODES)
def test_functions_have_their_modules_and_modules_their_use(topology: Topology, name: str) -> None:
    """Nothing is called whose module is not loaded; nothing is loaded that nobody needs."""
    text = code_of(rendered(topology, name)["kamailio.cfg"])
    loaded = set(re.findall(r'^loadmodule "(\w+)"', text, re.MULTILINE))
    called = {module for function, module in MODULE_OF_FUNCTION.items() if re.search(rf"\b{function}\(", text)}
    assert called - loaded == set()
    configured = set(re.findall(r'^modparam\("(\w+)"', text, re.MULTILINE))
    assert configured - loaded == set()
    used = called | ALONE | configured | {"pv", "tmx"} | ({"corex"} if "$cfg(" in text else set())
    assert loaded - used == set()


@pytest.mark.parametrize("name", KAMAILIO_NODES)
def test_routes_that_are_called_exist_and_all_are_called(topology: Topology, name: str) -> None:
    """Every route(X), t_on_reply, t_on_failure and route given to a module has its block, and no block is dead."""
    text = code_of(rendered(topology, name)["kamailio.cfg"])
    for kind, blocks in (
        (
            r"(?:\broute\((\w+)\)|_request\(\"(\w+)\"|(?:challenge|resync_auth|save|unreg)\(\"(\w+)\"|"
            r"\bt_continue\(.*\"(\w+)\"\))",
            r"^route\[(\w+)\]",
        ),
        (r"\bt_on_reply\(\"(\w+)\"", r"^onreply_route\[(\w+)\]"),
        (r"\bt_on_failure\(\"([A-Z]\w*)\"", r"^failure_route\[(\w+)\]"),
    ):
        wanted = {next(filter(None, found)) if isinstance(found, tuple) else found for found in re.findall(kind, text)}
        assert wanted == set(re.findall(blocks, text, re.MULTILINE)), kind


@pytest.mark.parametrize("name", KAMAILIO_NODES)
def test_configs_can_be_read(topology: Topology, name: str) -> None:
    """Short files, short lines, a comment above every route, and log lines that say where they come from."""
    source = Path(topology.node(name).templates["kamailio.cfg"])
    lines = source.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 440
    assert [number for number, line in enumerate(lines, 1) if len(line) > 140] == []
    assert [number for number, line in enumerate(lines, 1) if "\t" in line or line != line.rstrip()] == []
    text = "\n".join(lines)
    own = (
        r'^log_prefix="\{\$cfg\(route\)' if name == "proxy" else rf'modparam\("xlog", "prefix", "({name}|@@NODE@@): "\)'
    )
    assert re.search(own, text, re.MULTILINE)
    assert all(line.rstrip().endswith('\\n");') for line in lines if re.match(r"\s+xlog\(", line) and ");" in line)


@pytest.mark.parametrize("name", ["icscf", "scscf", "scscf2"])
def test_diameter_peers(topology: Topology, name: str) -> None:
    """cdp.xml: who we are, where the HSS is, Cx and nothing else, from the node's own address."""
    root = ElementTree.fromstring(rendered(topology, name)["cdp.xml"].split("?>", 1)[1])
    peer, acceptor = root.find("Peer"), root.find("Acceptor")
    assert peer is not None
    assert acceptor is not None
    assert root.get("FQDN") == f"{name}.{topology.realm}"
    assert (peer.get("FQDN"), peer.get("port")) == ("127.9.9.10", "3868")
    assert peer.get("src_addr") == acceptor.get("bind") == f"127.9.9.{topology.node(name).host}"
    assert acceptor.get("port") == str(topology.node(name).port("diameter").number)
    assert [(one.get("id"), one.get("vendor")) for one in root.iter("Auth")] == [("16777216", "10415")]


def test_icscf_knows_the_scscfs(topology: Topology) -> None:
    """Both stand in its list, with their ports, and colons as db_text wants them; the second can do more."""
    files = rendered(topology, "icscf")
    for number, name in enumerate(("scscf", "scscf2"), start=1):
        port = topology.node(name).port("sip").number
        assert rf"sip\:{name}.{topology.realm}\:{port}" in files["db/s_cscf"].splitlines()[number]
    rows = [row.split(":") for row in files["db/s_cscf_capabilities"].splitlines()[1:]]
    first, second = ({row[2] for row in rows if row[1] == number} for number in ("1", "2"))
    assert first < second


def test_timers_are_nested(topology: Topology) -> None:
    """The node nearer to the trouble answers first: HSS, S-CSCF, I-CSCF, P-CSCF in this order."""
    waits = [
        int(re.findall(r'"fr_timer", (\d+)', rendered(topology, name)["kamailio.cfg"])[0])
        for name in ("scscf", "icscf", "pcscf")
    ]
    transaction_s = [
        int(re.findall(r'TransactionTimeout="(\d+)"', rendered(topology, name)["cdp.xml"])[0])
        for name in ("scscf", "icscf")
    ]
    assert 1000 * max(transaction_s) < waits[0] < waits[1] < waits[2]


def test_known_crashes_are_kept_away_from(topology: Topology) -> None:
    """save() with all four parameters, lookup() for SIP URIs with a user only, no debug lines of ims_usrloc_scscf."""
    text = code_of(rendered(topology, "scscf")["kamailio.cfg"])
    assert re.findall(r"\bsave\(([^)]*)\)", text) == ['"ASSIGNED", "location", "0", "0"']
    assert all('=~ "^sip:[^@]+@"' in line for line in text.splitlines() if 'lookup("location")' in line)
    assert '"mod_level", "ims_usrloc_scscf=1"' in text
