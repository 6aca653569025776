"""A proxy's log as a learner reads it: lines as Kamailio 5.6.3 and 6.0.1 wrote them."""

from __future__ import annotations

from labkit.lab.learner.log import read_log

LINES = [
    "Listening on ",
    "             udp: 127.77.0.5 [127.77.0.5]:5060",
    " 1(11293) NOTICE: {core:pre-routing:27:/etc/lab/kamailio.cfg} <script>: alive ready-1",
    " 1(11293) NOTICE: {DEFAULT_ROUTE:2:/etc/lab/lesson/block.cfg} <script>: rU=bob",
    " 1(11293) ERROR: {RELAY:9:/etc/lab/lesson/block.cfg} <script>: two",
    "lines",
    " 1(7) ERROR: {<null>:0:<null>} <core> [core/action.c:1371]: do_action(): runaway while (11, 20)",
    " 1(7) ERROR: {<null>:0:<null>} <core> [core/action.c:1533]: do_action(): run action error at: /x/block.cfg:11",
    " 0(1) INFO: <core> [core/sctp_core.c:53]: sctp_core_check_support(): SCTP API not enabled",
    " 0(1) NOTICE: {REPLY:4:/etc/lab/kamailio.cfg} <script>: ours",
]


def test_lines_say_block_and_line() -> None:
    """Each line of the learner's has the block as it is written, and its line; a text may have a line end in it."""
    found = read_log(LINES, {"RELAY": "route[RELAY]", "REPLY": "onreply_route[REPLY]"}, "block.cfg")
    assert [(line.block, line.line, line.level, line.text) for line in found] == [
        ("core:pre-routing", 0, "NOTICE", "alive ready-1"),
        ("request_route", 2, "NOTICE", "rU=bob"),
        ("route[RELAY]", 9, "ERROR", "two\nlines"),
        ("", 0, "ERROR", "runaway while (11, 20)"),
        ("", 11, "ERROR", "run action error at: line 11"),
        ("onreply_route[REPLY]", 0, "NOTICE", "ours"),
    ]


def test_the_programs_own_lines_are_told_from_the_scripts() -> None:
    """What the script logged is shown with its place, what Kamailio says with its level."""
    shown = [str(line) for line in read_log(LINES, {}, "block.cfg")]
    assert shown[1] == "request_route, line 2: rU=bob"
    assert shown[3] == "ERROR: runaway while (11, 20)"
    assert shown[4] == "line 11: ERROR: run action error at: line 11"


def test_the_banner_may_come_anywhere_and_is_no_part_of_a_line() -> None:
    """It is printed on another stream than the log; a text with a line end in it stays one."""
    said = "12(45) NOTICE: {<null>:15:/etc/lab/lesson/block.cfg} <script>: a worker\nbegins"
    ports = ["             udp: 172.31.0.14 [172.31.0.14]:5060", "             tcp: 172.31.0.14 [172.31.0.14]:5060"]
    banner = ["Listening on ", *ports, "Aliases: ", "             *: proxy.test:5060"]
    found = read_log([*banner, *said.split("\n"), *banner], {}, "block.cfg")
    assert [line.text for line in found] == ["a worker\nbegins"]
