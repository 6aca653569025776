"""A ladder that grows, in a real JupyterLab: a message on the wire is soon a row on the screen.

The delay is printed, not asserted: the machine may be busy.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.capture.source import can_sniff
from tests.chromium import Chromium
from tests.jupyter_page import ROOT, Lessons, open_notebook, run_all, saved_when_run, scroll_until

ADDRESS = "127.211.7.5"
NOTEBOOK = "99_live.ipynb"
CELLS = (
    f"""\
import os, pathlib
from labkit.capture.live import LiveFeed
from labkit.capture.source import AfPacketSniffer
from labkit.view.live import LiveView
sniffer = AfPacketSniffer("lo", "{ADDRESS}/32"); sniffer.start()
view = LiveView(LiveFeed(sniffer), lambda: {{"{ADDRESS}:5060": "server", "{ADDRESS}:5061": "client"}}, "live")
view.start()
pathlib.Path("pid").write_text(str(os.getpid()))""",
    """\
import labkit as lk
lab = lk.open("01", engine="replay")
with lab.capture("first-registration") as first:
    first.live()""",
)
WATCH = """
window.delays = [];
new MutationObserver(changes => {
  const now = Date.now() % 2 ** 31;
  for (const change of changes) for (const row of change.addedNodes) {
    const said = /CSeq (\\d+)/.exec(row.textContent ?? "");
    if (said && Number(said[1]) > 100) window.delays.push(now - Number(said[1]));
  }
}).observe(document.querySelector(".lk-space"), { childList: true });
"""
"""Notes how long ago each row that appears was sent: its CSeq is the time of sending."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not can_sniff(), reason="sniffing the loopback needs CAP_NET_RAW"),
]


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lessons]:
    """JupyterLab with a notebook that watches the loopback."""
    opened = Lessons(tmp_path_factory.mktemp("checkout"), "replay")
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, opened.root / "notebooks" / NOTEBOOK)
    yield opened
    assert opened.stop() == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """One page for all steps."""
    with Chromium(tmp_path_factory.mktemp("profile") / "p") as chromium:
        yield chromium


def send(rate: int, seconds: float) -> subprocess.Popen[str]:
    """Let another process send requests at a rate."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "traffic.py"), "sip", ADDRESS, str(rate), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def cpu_s(process_id: int) -> float:
    """Processor seconds that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def figures(browser: Chromium, process_id: int, rate: int, seconds: float) -> str:
    """Send, watch, and return one line of figures; rows must have come."""
    before = browser.value("window.delays.length")
    cpu_before, began = cpu_s(process_id), time.monotonic()
    sender = send(rate, seconds)
    sent = int(sender.communicate(timeout=60)[0].split()[0])
    cpu = (cpu_s(process_id) - cpu_before) / (time.monotonic() - began)
    time.sleep(0.6)
    delays = sorted(browser.value("window.delays")[before:])
    assert delays, "no message appeared"
    return (
        f"{rate:>5} messages/s: {sent} sent, {len(delays)} drawn, to the screen p50 {statistics.median(delays):.0f} ms,"
        f" p95 {delays[int(len(delays) * 0.95)]:.0f} ms, kernel {cpu * 100:.0f} % of a core"
    )


def counted(browser: Chromium) -> int:
    """The counter of messages on the page."""
    found = re.search(r"([\d,]+) messages\b", browser.value("document.querySelector('.lk-counts').innerText"))
    assert found is not None
    return int(found[1].replace(",", ""))


def test_messages_appear_while_they_are_sent(
    lessons: Lessons, browser: Chromium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, counters and the stream's figures move; pause holds the picture and loses nothing; a row can be opened."""
    open_notebook(browser, lessons, NOTEBOOK)
    run_all(browser)
    browser.wait_for("!!document.querySelector('.lk-live .lk-space')", 60)
    process_id = int((lessons.root / "notebooks" / "pid").read_text())
    browser.value(WATCH)
    lines = [figures(browser, process_id, rate, 4) for rate in (20, 200, 1000)]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert browser.value("/no packet lost/.test(document.querySelector('.lk-counts').innerText)")
    assert browser.value("/client → server PCMU|PCMU/.test(document.querySelector('.lk-streams').innerText)")
    pause_and_open(browser, tmp_path)
    assert browser.errors == []


def choose(browser: Chromium, protocol: str) -> None:
    """Filter by a protocol."""
    browser.value(
        f"(s => {{ s.value = {protocol!r}; s.dispatchEvent(new Event('change')); }})"
        "(document.querySelector('.lk-protocol'))"
    )


def pause_and_open(browser: Chromium, tmp_path: Path) -> None:
    """Pause, filter, and open a message while traffic runs."""
    running = send(50, 6)
    browser.value("document.querySelector('.lk-pause').click()")
    rows, count = "document.querySelector('.lk-space').style.height", counted(browser)
    held = browser.value(rows)
    time.sleep(1.5)
    assert browser.value(rows) == held
    assert counted(browser) > count
    browser.value("document.querySelector('.lk-pause').click()")
    browser.wait_for(f"{rows} !== {held!r}")
    browser.value(
        "(s => { s.value = 'RTP'; s.dispatchEvent(new Event('change')); })(document.querySelector('.lk-protocol'))"
    )
    browser.wait_for("document.querySelectorAll('.lk-space .lk-row').length <= 4")
    browser.value(
        "(s => { s.value = ''; s.dispatchEvent(new Event('change')); })(document.querySelector('.lk-protocol'))"
    )
    browser.wait_for("document.querySelectorAll('.lk-space .lk-row').length > 10")
    browser.value("document.querySelector('.lk-space .lk-row[data-place]').click()")
    browser.wait_for("/OPTIONS|INVITE/.test(document.querySelector('.lk-message').innerText)")
    browser.photograph(tmp_path / "live.png")
    running.communicate(timeout=60)


def test_a_replayed_capture_leaves_a_plain_ladder_and_a_table(
    lessons: Lessons, browser: Chromium, tmp_path: Path
) -> None:
    """What is stored needs no kernel: a plotly figure in the widget's place, and the table of messages."""
    notebook = saved_when_run(browser, lessons.root / "notebooks" / NOTEBOOK)
    outputs: Any = notebook["cells"][1]["outputs"]
    assert outputs[0]["data"]["application/vnd.plotly.v1+json"]["data"]
    assert "REGISTER" in "".join(outputs[1]["data"]["text/plain"])
    scroll_until(browser, "!!document.querySelector('.js-plotly-plot .xaxislayer-above')")
    browser.photograph(tmp_path / "replayed.png")
