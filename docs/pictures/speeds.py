"""speeds.png: the table of writers of large frames, as bars."""

from pathlib import Path

from common import save
from matplotlib.figure import Figure

# The table is written once, in the page that explains it.
page = Path(__file__).parents[1] / "explanations" / "performance.md"
lines = page.read_text("utf-8").split("| 2048 x 2048, MB/s")[1].splitlines()
rows = []
for line in lines[2:]:
    if not line.startswith("|"):
        break
    rows.append([cell.strip(" `") for cell in line.strip("|").split("|")])

figure = Figure(figsize=(9, 3.4), layout="constrained")
panels = figure.subplots(1, 2, sharey=True)
names = [row[0].replace("`", "") for row in rows]
for axes, column, title in zip(panels, (1, 3), ("no codec", "Blosc-lz4"), strict=True):
    for place, row in enumerate(rows):
        speed = float(row[column] or 0)
        color = "0.7" if place == 0 else "crimson" if row[0].startswith("ours") else "C0"
        axes.barh(place, speed, color=color)
        text = f" {row[column]}" if row[column] else " not measured"
        axes.text(speed, place, text, va="center", fontsize=8)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="MB/s of raw frames")
    axes.set_title(title, fontsize="medium")
    axes.margins(x=0.15)
    axes.grid(axis="x", alpha=0.3)
panels[0].invert_yaxis()
save(figure, "speeds.png")
