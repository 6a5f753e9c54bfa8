"""shard.png: a shard file while it is written, and when it is published."""

from common import save
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

INDEX, HEAD, CHUNK, END, DEAD = "#4c78a8", "#b0b0b0", "#f2a65a", "#54a24b", "#e8d9c5"

#: Positions of the scan in the order in which they were written; 1 was measured twice.
ORDER = [0, 1, 2, 1, 3]
STALE = 1  # which record of these nobody reads any more

figure = Figure(figsize=(9.5, 4.4), layout="constrained")
axes = figure.subplots()
axes.set(xlim=(-2.5, 12.8), ylim=(-0.2, 4.4))
axes.axis("off")


def box(x, y, width, color, text="", size=9):
    """A piece of the file."""
    axes.add_patch(Rectangle((x, y), width, 0.9, fc=color, ec="white", lw=1.5))
    axes.text(x + width / 2, y + 0.45, text, ha="center", va="center", fontsize=size)


def shard_file(y, published):
    """Draw the file; the entries' middles and the chunks' beginnings are joined by arrows."""
    entries = range(4)
    for n in entries:
        box(0.5 * n, y, 0.5, INDEX, str(n))
    x, starts = 2.0, {}
    for number, position in enumerate(ORDER):
        box(x, y, 0.25, HEAD)
        box(x + 0.25, y, 1.35, DEAD if number == STALE else CHUNK, f"frame {position}")
        starts[position] = x + 0.4
        x += 1.6
    if published:
        for n in entries:
            box(x + 0.45 * n, y, 0.45, END, str(n))
        box(x + 1.8, y, 0.6, END, "crc", 7)
    origin = x if published else 0.0
    width = 0.45 if published else 0.5
    for n in entries:
        axes.add_patch(
            FancyArrowPatch(
                (origin + width * (n + 0.5), y + 0.9),
                (starts[n], y + 0.9),
                connectionstyle=f"arc3,rad={0.35 if published else -0.35}",
                arrowstyle="-|>",
                mutation_scale=9,
                color="0.35",
                lw=0.9,
            )
        )


axes.text(-2.4, 2.85, "running\n(index at the start)", fontsize=9, va="center")
axes.text(-2.4, 0.45, "published\n(index at the end)", fontsize=9, va="center")
shard_file(2.4, published=False)
shard_file(0.0, published=True)
axes.text(10.3, 2.85, "appended, frame by frame", fontsize=9, va="center", color="0.3")
legend = [
    (INDEX, "entry: offset, length"),
    (HEAD, "head of a record"),
    (CHUNK, "encoded chunk + crc32c"),
    (DEAD, "replaced: unread"),
    (END, "index with its crc32c"),
]
handles = [Rectangle((0, 0), 1, 1, fc=color) for color, _ in legend]
axes.legend(
    handles, [text for _, text in legend], loc="upper center", ncol=5, fontsize=8, frameon=False
)
save(figure, "shard.png")
