"""Learners' routing blocks on the real proxy: quick to start, readable when refused, and gone when the lesson is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.capture.source import to_pcapng
from labkit.capture.table import read_capture
from labkit.errors import BlockRefused, StackError
from labkit.lab.docker_client import Daemon
from labkit.lab.lab import RunningLab, attach, start_lab
from labkit.lab.learner.proxy import LearnersProxy
from labkit.lab.lesson_files import has_lesson
from labkit.lab.process import lab_processes
from labkit.session.probe import Probe
from labkit.session.quiet import QuietSniffer

REFUSED = Path(__file__).parents[1] / "data" / "kamailio" / "refused.json"
ONLY_A_START_PROVES = (
    "address and port in one text",
    "a variable that is not there, in a text",
    "a database without its tables",
    "a function that is not there",
    "a route that is not there",
)
"""Of the recorded refusals: one of each way to find out; `kamailio -c` lets the first three pass."""
SAY = 'request_route {{\n    xlog("L_NOTICE", "said={word} to $rU\\n");\n    sl_send_reply("404", "{word}");\n}}\n'


@pytest.fixture(scope="module")
def lab(engine_name: str, live_home: Path) -> Iterator[RunningLab]:
    """The proxy, and an HSS, so that something lives while the proxy is down."""
    running = start_lab(f"proxy-{engine_name}", engine_name, nodes=("hss", "proxy"))
    yield running
    running.stop()


@pytest.fixture
def proxy(lab: RunningLab) -> Iterator[LearnersProxy]:
    """The proxy as a learner drives it; plain again afterwards."""
    driven = LearnersProxy(lab)
    yield driven
    driven.files = {}
    driven.restore()


@pytest.fixture
def probe(lab: RunningLab, proxy: LearnersProxy) -> Iterator[Probe]:
    """What plays messages at it."""
    address, port = lab.phone_address(0)
    names = {**lab.names(), f"{address}:{port}": "probe"}
    sniffer = QuietSniffer(lab.sniffer())
    sniffer.start()

    def read(_: Any, begin: int, end: int) -> Any:
        return read_capture(to_pcapng(sniffer.frames(begin, end), names), names=names)

    made = Probe(proxy, lab.sip_address("proxy"), (address, port), lambda: sniffer, read)
    yield made
    made.close()
    sniffer.stop()


def programs(lab: RunningLab) -> int:
    """How many processes of the proxy there are."""
    if lab.engine_name == "local":
        return len(lab_processes(lab=lab.id, node="proxy"))
    found = Daemon().api().top(lab.record.nodes["proxy"]["container"])
    return sum("kamailio.cfg" in " ".join(row) and "labkit" not in " ".join(row) for row in found["Processes"])


def test_a_block_runs_within_a_second_and_nothing_stays_of_the_one_before(
    lab: RunningLab, proxy: LearnersProxy, probe: Probe
) -> None:
    """From the text to a proxy that answers by it: well under a second where nobody else needs the processors, so the
    best of five counts; always the newest block, never two programs.
    """
    before, took = programs(lab), []
    for word in ("one", "two", "three", "four", "five"):
        took.append(proxy.start(SAY.format(word=word), {}).took_s)
        played = probe.send("OPTIONS sip:bob@example.org")
        assert [(reply.status, reply.reason) for reply in played.replies] == [(404, word)]
        assert played.values == {"said": f"{word} to bob"}
        assert played.log[0].line == 2
    assert min(took) < 1.0
    assert programs(lab) == before


@pytest.mark.parametrize("what", ONLY_A_START_PROVES)
def test_a_refused_start_comes_back_as_it_was_recorded(proxy: LearnersProxy, what: str) -> None:
    """The sentence with line and column is the same as the recorded one, whichever version runs here."""
    case = next(case for case in json.loads(REFUSED.read_text(encoding="utf-8")) if case["what"] == what)
    proxy.files = {"rules.sqlite": database("CREATE TABLE other (a)")}
    with pytest.raises(BlockRefused) as caught:
        proxy.start(case["text"], {})
    assert str(caught.value) == case["says"]
    assert caught.value.said


def test_a_database_of_the_lesson_is_read(proxy: LearnersProxy, probe: Probe) -> None:
    """A block brings modules, parameters and a SQLite file, and finds a row by it."""
    proxy.files = {
        "rules.sqlite": database(
            "CREATE TABLE version (id INTEGER PRIMARY KEY, table_name TEXT, table_version INTEGER);"
            "INSERT INTO version (table_name, table_version) VALUES ('dialplan', '2');"
            "CREATE TABLE dialplan (id INTEGER PRIMARY KEY, dpid INTEGER, pr INTEGER, match_op INTEGER, match_exp TEXT,"
            " match_len INTEGER, subst_exp TEXT, repl_exp TEXT, attrs TEXT);"
            r"INSERT INTO dialplan VALUES (1, 7, 1, 1, '^\d+$', 0, '^0(\d+)$', '49\1', '');"
        )
    }
    started = proxy.start(
        'loadmodule "db_sqlite"\nloadmodule "dialplan"\n'
        'modparam("dialplan", "db_url", "sqlite:///LESSON_FILES/rules.sqlite")\n'
        'request_route {\n    if (dp_translate("7", "$rU/$var(to)")) xlog("L_NOTICE", "to=$var(to)\\n");\n}\n',
        {},
    )
    assert started.modules == ("db_sqlite", "dialplan")
    played = probe.send("OPTIONS sip:089123@example.org")
    assert played.values == {"to": "4989123"}
    assert played.replies == played.sent_on == ()


def test_what_a_killed_notebook_left_is_gone_for_the_next(
    lab: RunningLab, proxy: LearnersProxy, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused block leaves the proxy down, which the probe says at once; whoever opens the lab next has it plain."""
    with pytest.raises(BlockRefused):
        proxy.start('request_route {\n    forward("127.0.0.1:5080");\n}\n', {})
    with pytest.raises(StackError, match=r"does not run.*lab\.proxy\.restore"):
        probe.send("OPTIONS sip:bob@example.org")
    assert has_lesson(lab.record, "proxy")
    monkeypatch.setenv("LABKIT_NAME", lab.name)
    labkit.open("06", engine=lab.engine_name, nodes=["proxy"]).close()
    assert not has_lesson(lab.record, "proxy")
    found = attach(lab.name)
    assert found is not None
    assert found.ready("proxy")
    assert [reply.status for reply in probe.send(f"OPTIONS sip:{proxy.host}").replies] == [200]


def database(script: str) -> bytes:
    """A SQLite file."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    return connection.serialize()
