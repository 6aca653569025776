"""Reading a learner's routing blocks: what stands in them, and what cannot be started, by line and column."""

from __future__ import annotations

import pytest

from labkit.errors import BlockRefused
from labkit.lab.learner.text import own_name, plain_blocks, read_text
from labkit.lab.topology import load_topology

LOADED = ("tm", "sl", "textops", "xlog", "pv")
ALLOWED = ("htable", "dialplan", "db_sqlite")


def test_blocks_and_modules_of_a_text() -> None:
    """Every block is found by kind and name, whatever stands in strings and comments; so are further modules."""
    text = (
        '\nloadmodule "htable"\nloadmodule "tm"\nmodparam("htable", "htable", "a=>size=4;")\n#!define X 1\n'
        '# request_route {\n/* route[NO] { */\nrequest_route {\n    xlog("} { route[NO] {");\n    if (1) { exit; }\n}\n'
        "onreply_route[BACK] { drop; }\nreply_route { exit; }\nevent_route[tm:local-request] { exit; }\n"
        "route[A]\n{ exit; }\n"
    )
    read = read_text(text, ALLOWED, LOADED)
    assert [(block.title, block.line) for block in read.blocks] == [
        ("request_route", 8),
        ("onreply_route[BACK]", 12),
        ("onreply_route", 13),
        ("event_route[tm:local-request]", 14),
        ("route[A]", 15),
    ]
    assert read.modules == ("htable",)


def test_what_is_loaded_is_not_loaded_again_and_no_column_moves() -> None:
    """Kamailio refuses a module that is loaded twice: the statement becomes spaces, all else stays where it was."""
    text = 'loadmodule "tm"  # mine\nrequest_route { exit; }\n'
    assert read_text(text, ALLOWED, LOADED).started == f"{' ' * 15}  # mine\nrequest_route {{ exit; }}\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "what"),
    [
        ("", 1, 1, "no routing block"),
        ("request_route {\n    if (1) {\n        exit;\n}\n", 1, 15, "never closed"),
        ("request_route {\n}\n}\n", 3, 1, "closes nothing"),
        ('request_route {\n    xlog("hello);\n}\n', 2, 10, "never closed"),
        ("request_route {\n    /* off\n    exit;\n}\n", 2, 5, "never closed"),
        ("t_relay();\n", 1, 1, "outside of every block"),
        ('if is_method("INVITE"):\n    t_relay()\n', 1, 1, "outside of every block"),
        ("request_route\n    exit;\n", 1, 1, "is missing behind"),
        ("request_route { exit; }\nroute[A] { exit; }\nroute[A] { exit; }\n", 3, 1, "stands twice, first in line 2"),
        ("route { exit; }\nrequest_route { exit; }\n", 2, 1, "stands twice"),
        ('loadmodule "exec"\nrequest_route { exit; }\n', 1, 13, "not one that a lesson may load"),
        ('loadmodule "/tmp/evil.so"\nrequest_route { exit; }\n', 1, 13, "not one that a lesson may load"),
        ("loadmodule\nrequest_route { exit; }\n", 1, 1, "name of a module is missing"),
        ('include_file "/etc/passwd"\nrequest_route { exit; }\n', 1, 1, "all that is read"),
        ('request_route {\n    include_file "/etc/passwd"\n}\n', 2, 5, "all that is read"),
        ('request_route {\n#!include_file "/etc/passwd"\n}\n', 2, 1, "all that is read"),
        ("listen=udp:0.0.0.0:5060\nrequest_route { exit; }\n", 1, 1, "the lab has set it"),
        ("event_route[core:pre-routing] { drop; }\n", 1, 1, "lab's own"),
        ("request_route {\n    \0\n}\n", 2, 5, "NUL"),
    ],
)
def test_what_cannot_be_started_is_said_with_its_place(text: str, line: int, column: int, what: str) -> None:
    """Before anything is started: what is never closed, stands nowhere, or is not for a lesson to do."""
    with pytest.raises(BlockRefused, match=what) as caught:
        read_text(text, ALLOWED, LOADED)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_the_error_shows_the_line_and_points() -> None:
    """The message carries the learner's line with a mark under the place."""
    with pytest.raises(BlockRefused) as caught:
        read_text('request_route {\n    xlog("hello);\n}\n', ALLOWED, LOADED)
    assert str(caught.value).splitlines()[1:3] == ['   2 |     xlog("hello);', "     |          ^"]


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("request_route", "REQUEST_ROUTE"),
        ("route[RELAY]", "RELAY"),
        ("onreply_route", "ONREPLY_ROUTE"),
        ("event_route[core:worker-one-init]", "EVENT_ROUTE_CORE_WORKER_ONE_INIT"),
    ],
)
def test_names_are_such_that_kamailio_can_define_them(title: str, name: str) -> None:
    """A hyphen or a colon cannot stand in what `#!define` defines."""
    assert own_name(title) == name


def test_plain_blocks_are_those_that_a_lesson_may_write() -> None:
    """Each block of the plain proxy stands under the name that takes it away, so no block can be there twice."""
    config = load_topology().node("proxy").templates["kamailio.cfg"].read_text(encoding="utf-8")
    blocks = plain_blocks(config)
    assert blocks == ["request_route", "route[INITIAL]", "route[IN_DIALOG]", "route[RELAY]"]
    for block in blocks:
        assert f"#!ifndef OWN_{own_name(block)}\n{block} {{" in config
