"""What a ladder costs: the time to build the figure and its JSON, the size of the JSON, and text and browser beside it.

    python tests/bench/bench_ladder.py [--sizes 20,200,2000]

'story' holds 'canon'; 'text' and 'browse' hold 'story'; 'figure' is the drawing alone, with its JSON.
Least of three runs each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labkit.capture.canon import canon
from labkit.capture.table import Messages
from labkit.view.browse import browse
from labkit.view.drawing import Drawing, tell
from labkit.view.hover import hover_text
from labkit.view.ladder import Sheet
from labkit.view.text_ladder import text_ladder
from labkit.view.theme import LIGHT
from tests.view_messages import recording, repeated


def least_ms(work: Callable[[], object]) -> float:
    """Milliseconds of the quickest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def capture_of(size: int) -> Messages:
    """A capture of about so many messages: registrations and calls of a recorded core, over and over."""
    base = recording("01") if size < 90 else recording("05")
    return repeated(base, max(1, round(size / len(base.raw))))


def draw(drawing: Drawing, messages: Messages) -> str:
    """What `ladder` does after the story is told, and the JSON that a notebook stores."""
    import plotly.graph_objects as go

    sheet = Sheet(drawing, LIGHT)
    hovers = [hover_text(arrow, messages, full=not sheet.long) for arrow in drawing.arrows]
    return str(go.Figure(sheet.figure(hovers), _validate=False).to_json())


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="20,200,2000")
    print(
        f"{'messages':>8} {'canon ms':>9} {'story ms':>9} {'figure ms':>10} {'KB':>6} {'text ms':>8} {'browse ms':>10}"
    )
    for size in map(int, parser.parse_args().sizes.split(",")):
        messages = capture_of(size)
        drawing = tell(messages)
        canonical = least_ms(lambda messages=messages: canon(messages))
        story = least_ms(lambda messages=messages: tell(messages))
        figure = least_ms(lambda drawing=drawing, messages=messages: draw(drawing, messages))
        text = least_ms(lambda messages=messages: text_ladder(messages))
        opened = least_ms(lambda messages=messages: browse(messages))
        kilobytes = len(draw(drawing, messages)) / 1000
        print(
            f"{len(messages.raw):>8} {canonical:>9.1f} {story:>9.1f} {figure:>10.1f} {kilobytes:>6.0f} "
            f"{text:>8.1f} {opened:>10.1f}"
        )


if __name__ == "__main__":
    main()
