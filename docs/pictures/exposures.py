"""exposures.png: the table of adaptive scans and their peers, as bars."""

import re
from pathlib import Path

import numpy as np
from common import save
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1]

# The table is written once, in the page that explains it.
(page,) = [p for p in DOCS.rglob("*.md") if "| Case (signal on background)" in p.read_text("utf-8")]
lines = page.read_text("utf-8").split("| Case (signal on background)")[1].splitlines()
names = [cell.strip(" `") for cell in lines[0].strip("|").split("|") if cell.strip()]
cases, exposures, successes = [], [], []
for line in lines[2:]:
    if not line.startswith("|") or line.startswith("| **"):
        break
    case, *cells = [cell.strip() for cell in line.strip("|").split("|")]
    found = [re.match(r"([\d.]+) \((\d+)", cell) for cell in cells]
    cases.append(case)
    exposures.append([float(each[1]) for each in found])
    successes.append([int(each[2]) for each in found])

figure = Figure(figsize=(9.5, 5.2), layout="constrained")
axes = figure.subplots()
places = np.arange(len(cases))
for n, name in enumerate(names):
    width = 0.85 / len(names)
    bars = axes.barh(
        places + (n - (len(names) - 1) / 2) * width,
        [row[n] for row in exposures],
        width,
        label=name,
        color="crimson" if n == 0 else f"C{n + 6}",
    )
    for bar, row in zip(bars, successes, strict=True):
        if row[n] < 90:
            bar.set(alpha=0.3, hatch="////")
axes.set(yticks=places, yticklabels=cases, xscale="log", xlabel="median exposures")
axes.set_title("Exposures until the peaks are known: shorter is better", fontsize="medium")
axes.margins(y=0.01)
axes.invert_yaxis()
axes.grid(axis="x", alpha=0.3)
figure.legend(
    fontsize=8,
    loc="outside lower center",
    ncol=len(names),
    title="hatched: right in less than 90 %",
)
save(figure, "exposures.png")
