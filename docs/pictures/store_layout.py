"""store.png: what lies where in the store of a run."""

from common import save
from matplotlib.figure import Figure

ROWS = [
    (
        0,
        "00001_nested_scan.zarr",
        "a run; its root says running, then complete, stopped, ...",
    ),
    (1, "primary", "an event stream"),
    (2, "cam", "mono, y, x, cam_y, cam_x      frames, in shards"),
    (2, "cam_written", "mono, y, x      how often each position was measured"),
    (2, "cam-sum, diode, ...", "mono, y, x      every number of the events"),
    (2, "mono_readback, ...", "mono, y, x      what the motors read"),
    (2, "mono, y, x", "one dim each      the setpoints: coordinates of that dim"),
    (2, "seq_num, time", "mono, y, x      of the event at each position"),
    (1, "dark, baseline, ...", "further streams, each with its own dims"),
    (0, "00001_nested_scan.zarr.journal", "the documents, as lines of JSON: what a recovery reads"),
]
COLORS = ["#4c78a8", "#54a24b", "#f2a65a"]

figure = Figure(figsize=(8.4, 3.9), layout="constrained")
axes = figure.subplots()
axes.set(xlim=(0, 9), ylim=(-len(ROWS) + 0.4, 0.8))
axes.axis("off")
for number, (depth, name, meaning) in enumerate(ROWS):
    x = 0.1 + 0.45 * depth
    box = {"boxstyle": "round,pad=0.35", "fc": COLORS[depth], "ec": "none", "alpha": 0.35}
    axes.text(x, -number, name, fontsize=10, va="center", family="monospace", bbox=box)
    axes.text(3.75, -number, meaning, fontsize=9, va="center", color="0.25")
    parent = max((n for n in range(number) if ROWS[n][0] < depth), default=None)
    if parent is not None:
        left = x - 0.3
        axes.plot([left, left, x - 0.09], [-parent - 0.3, -number, -number], color="0.6", lw=1)
save(figure, "store.png")
