"""The exported compose.yaml: valid, as locked down as the docker engine's containers, and whole.

No package carries the compose specification's schema, so SCHEMA below says the parts that the export uses; it was
written from the published specification and forbids every key that it does not name.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import yaml

from labkit.lab.compose import CONF_SERVICE, compose_tree, compose_yaml, to_yaml
from labkit.lab.docker_container import CONF_DIR
from labkit.lab.topology import load_topology


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def table_of(values: dict[str, Any]) -> dict[str, Any]:
    """An object with names as keys."""
    return {"type": "object", "patternProperties": {"^[a-zA-Z0-9._-]+$": values}, "additionalProperties": False}


TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "uniqueItems": True}
CONDITIONS = ["service_started", "service_healthy", "service_completed_successfully"]
SERVICE = closed(
    {
        "image": TEXT,
        "build": closed({"context": TEXT, "dockerfile": TEXT, "args": table_of(TEXT)}),
        "command": {"type": "array", "items": TEXT},
        "profiles": TEXTS,
        "environment": table_of(TEXT),
        "hostname": TEXT,
        "depends_on": table_of(closed({"condition": {"enum": CONDITIONS}}, "condition")),
        "networks": table_of(closed({"aliases": TEXTS, "ipv4_address": TEXT})),
        "network_mode": TEXT,
        "expose": {"type": "array", "items": {"type": "string", "pattern": r"^\d+/(udp|tcp)$"}, "uniqueItems": True},
        "user": TEXT,
        "init": {"type": "boolean"},
        "read_only": {"type": "boolean"},
        "cap_drop": TEXTS,
        "security_opt": TEXTS,
        "logging": closed({"driver": TEXT, "options": table_of(TEXT)}),
        "mem_limit": TEXT,
        "pids_limit": {"type": "integer"},
        "tmpfs": TEXTS,
        "volumes": TEXTS,
        "configs": {"type": "array", "items": closed({"source": TEXT, "target": TEXT}), "uniqueItems": True},
    }
)
SCHEMA = closed(
    {
        "name": TEXT,
        "services": table_of(SERVICE),
        "networks": table_of(
            closed({"driver": TEXT, "ipam": closed({"config": {"type": "array", "items": closed({"subnet": TEXT})}})})
        ),
        "volumes": table_of(closed({})),
        "configs": table_of(closed({"content": TEXT})),
    },
    "services",
)


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    """The exported text, read by another YAML program."""
    read: dict[str, Any] = yaml.safe_load(compose_yaml())
    return read


def nodes(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in tree["services"].items() if name != CONF_SERVICE}


def test_the_text_is_yaml_and_says_what_was_meant(tree: dict[str, Any]) -> None:
    """Another program reads the same values from the text."""
    assert tree == compose_tree(load_topology())


def test_it_is_valid(tree: dict[str, Any]) -> None:
    """Nothing that the compose specification does not know."""
    jsonschema.Draft202012Validator(SCHEMA).validate(tree)


def test_every_node_is_a_service(tree: dict[str, Any]) -> None:
    """Optional ones start on demand, by a profile."""
    topology = load_topology()
    assert list(nodes(tree)) == list(topology.nodes)
    assert {name for name, service in nodes(tree).items() if "profiles" in service} == {
        node.name for node in topology.nodes.values() if node.optional
    }


def test_every_service_is_locked_down(tree: dict[str, Any]) -> None:
    """As on the docker engine: ordinary user, no capability, no way to one, limits; the root is read-only."""
    for name, service in tree["services"].items():
        assert service["user"] not in ("", "root", "0"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges"], name
        assert service["mem_limit"], name
        assert service["pids_limit"] > 0, name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert "ports" not in service, name
        assert service["read_only"] is (name != CONF_SERVICE), name
    assert tree["services"][CONF_SERVICE]["network_mode"] == "none"


def test_nodes_find_each_other(tree: dict[str, Any]) -> None:
    """Each has its full name as an alias and an address of its own, in the subnet that is said."""
    realm = load_topology().realm
    addresses = set()
    for name, service in nodes(tree).items():
        (place,) = service["networks"].values()
        assert place["aliases"] == [f"{name}.{realm}"]
        addresses.add(place["ipv4_address"])
    assert len(addresses) == len(nodes(tree))
    (network,) = tree["networks"].values()
    assert network["ipam"]["config"] == [{"subnet": "${LABKIT_NET:-172.31.77}.0/24"}]


def test_every_reference_leads_somewhere(tree: dict[str, Any]) -> None:
    """Networks, volumes, configs and services that are named are there."""
    for service in tree["services"].values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= set(tree["volumes"])
        assert {config["source"] for config in service.get("configs", ())} <= set(tree["configs"])
        assert set(service.get("networks", ())) <= set(tree["networks"])
        assert set(service.get("depends_on", ())) <= set(tree["services"])


def test_each_node_gets_its_files_before_it_starts(tree: dict[str, Any]) -> None:
    """`conf` receives every template and has ended well before a node starts; commands name where they then are."""
    topology = load_topology()
    targets = {config["target"].partition("/inline/")[2] for config in tree["services"][CONF_SERVICE]["configs"]}
    assert targets == {f"{node.name}/{path}" for node in topology.nodes.values() for path in node.templates}
    for name, service in nodes(tree).items():
        assert service["depends_on"][CONF_SERVICE] == {"condition": "service_completed_successfully"}
        assert f"{CONF_SERVICE}:{CONF_DIR}:ro" in service["volumes"]
        assert any(f"{word}/".startswith(f"{CONF_DIR}/{name}/") for word in service["command"])


def test_compose_changes_nothing_but_our_variables(tree: dict[str, Any]) -> None:
    """Kamailio's $ru stays $ru: each dollar sign is doubled, except those of the two variables meant for compose."""
    ours = re.compile(r"\$\{LABKIT_(NET:-172\.31\.77|TOKEN:\?[^}]*)\}")
    texts = [config["content"] for config in tree["configs"].values()]
    texts += [word for service in nodes(tree).values() for word in service["command"]]
    for text in texts:
        assert "$" not in ours.sub("", text).replace("$$", "")
    assert any("$$" in text for text in texts)
    assert tree["configs"]["hss-token"]["content"].startswith("${LABKIT_TOKEN:?")


def test_no_placeholder_and_no_secret_is_left(tree: dict[str, Any]) -> None:
    """Everything of lab.toml is filled in; the token is asked for, not written down."""
    assert re.findall("@@[A-Z_]+@@", str(tree)) == []


@pytest.mark.parametrize(
    "text",
    [
        "one line",
        "two\nlines",
        "two\nlines\n",
        "ends\nwith\nempty\n\n\n",
        "\n  begins empty and indented\n",
        "  indented\nthen not\n",
        "tab\there\n\n\tand at the start\n",
        "trailing blanks  \nkeep\n",
        "# looks like a comment\n- and: a list\n",
        "bell\a\nnot printable\n",
        "carriage\r\nreturns\r\n",
        "\n\n",
        "",
        "ümlaut → arrow\n",
        "---\n...\n",
    ],
)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """The emitter against another program's reader."""
    tree = {"top": {"content": text, "on": text, "list": [text], "tables": [{"key": text}], "number": 7, "yes": True}}
    assert yaml.safe_load("\n".join(to_yaml(tree)) + "\n") == tree
