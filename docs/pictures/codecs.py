"""codecs.png: the table of codecs, as speed against ratio."""

from pathlib import Path

from common import save
from matplotlib.figure import Figure

# The table is written once, in the page that explains it.
page = Path(__file__).parents[1] / "how-to" / "layout-and-codec.md"
lines = page.read_text("utf-8").split("| `codec` |")[1].splitlines()

figure = Figure(figsize=(6.4, 3.6), layout="constrained")
axes = figure.subplots()
for line in lines[2:]:
    if not line.startswith("|"):
        break
    name, one, two, ratio = (cell.strip(" `") for cell in line.strip("|").split("|"))
    if not two:
        continue
    (drawn,) = axes.plot([float(one), float(two)], [float(ratio)] * 2, "-", lw=2)
    axes.plot(float(one), float(ratio), "o", color=drawn.get_color())
    axes.plot(float(two), float(ratio), "o", mfc="white", color=drawn.get_color())
    axes.annotate(name, (float(one), float(ratio)), (4, 7), textcoords="offset points", fontsize=9)
axes.set(
    xlabel="MB/s of raw frames (filled: one thread, open: two)",
    ylabel="compression ratio",
    xscale="log",
    ylim=(1.35, 1.95),
    xlim=(150, 3000),
)
axes.set_title("Codecs: up and right is better", fontsize="medium")
axes.set_xticks([200, 500, 1000, 2000], ["200", "500", "1000", "2000"])
axes.minorticks_off()
axes.grid(alpha=0.3)
save(figure, "codecs.png")
