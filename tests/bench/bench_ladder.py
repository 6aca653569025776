"""What a ladder costs: the time to build the figure and its JSON, the size of the JSON, and text and browser beside it.

    python tests/bench/bench_ladder.py [--sizes 20,200,2000,20000]

CPU time. 'story' holds 'canon'; 'text' and 'browse' hold 'story'; 'layout+figure+JSON' begins with the told story and
ends with what a notebook stores. Least of seven runs each (three of what takes longer than a second).
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
from labkit.view.drawing import tell
from labkit.view.hover import hover_texts
from labkit.view.ladder import SVG_LIMIT
from labkit.view.layout import Layout, lay_out
from labkit.view.long_ladder import long_figure
from labkit.view.short_ladder import short_figure
from labkit.view.text_ladder import text_ladder
from labkit.view.theme import AUTO
from tests.bench.yardstick import TARGET_US, yardstick_us
from tests.view_messages import recording, repeated


def least_ms(work: Callable[[], object]) -> float:
    """Milliseconds of CPU of the quickest of seven runs, or three long ones."""
    times: list[float] = []
    while len(times) < 3 or (len(times) < 7 and times[0] < 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def capture_of(size: int) -> Messages:
    """A capture of about so many messages: registrations and calls of a recorded core, over and over."""
    base = recording("01") if size < 90 else recording("05")
    return repeated(base, max(1, round(size / len(base.raw))))


def figure_of(layout: Layout, messages: Messages, *, hover: bool) -> str:
    """The JSON of the figure that `ladder` makes of a layout."""
    import plotly.graph_objects as go

    if layout.rows > SVG_LIMIT:
        figure = long_figure(layout, AUTO, "", hover=hover)
    else:
        hovers = hover_texts(layout.drawing.arrows, messages) if hover else [""] * len(layout.drawing.arrows)
        figure = short_figure(layout, AUTO, "", hovers)
    return str(go.Figure(figure, _validate=False).to_json())


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="20,200,2000,20000")
    columns = ["messages", "canon ms", "story ms", "layout+figure+JSON ms", "with hover ms", "B/msg"]
    columns += ["with hover B/msg", "text ms", "browse ms"]
    print(*(f"{name:>12}" for name in columns))
    for size in map(int, parser.parse_args().sizes.split(",")):
        messages = capture_of(size)
        drawing = tell(messages, retransmissions=True, streams=True)
        count, layout = len(drawing.arrows), lay_out(drawing)
        row = [
            least_ms(lambda messages=messages: canon(messages)),
            least_ms(lambda messages=messages: tell(messages, retransmissions=True, streams=True)),
            *(
                least_ms(lambda hover=hover, drawing=drawing, messages=messages: figure_of(
                    lay_out(drawing), messages, hover=hover
                )) for hover in (False, True)
            ),
            *(len(figure_of(layout, messages, hover=hover)) / count for hover in (False, True)),
            least_ms(lambda messages=messages: text_ladder(messages)),
            least_ms(lambda messages=messages: browse(messages)),
        ]  # fmt: skip
        print(f"{count:>12}", *(f"{value:>{max(12, len(name))}.1f}" for value, name in zip(
            row, columns[1:], strict=True
        )), flush=True)  # fmt: skip
    print(f"yardstick {yardstick_us():.1f} us here, {TARGET_US} us on the machine of the targets: see yardstick.py")


if __name__ == "__main__":
    main()
