"""Put the tables and figures of every step into one page that needs nothing else: report.html."""
import argparse
import io
import json
import re
from html import escape
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--alpha", type=float, default=0.05)
alpha = parser.parse_known_args()[0].alpha
level = f"{100 * (1 - alpha):g}\u00a0%"

INK, GREY, LINE = "#1d2733", "#66717e", "#d5dae0"
ARMS = {"placebo": "#8a6d3b", "D-penicillamine": "#1f6f8b"}
STAGES = {"I-II": "#2a8f82", "III": "#d08c1f", "IV": "#b23a48"}
plt.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "trial", "font.size": 10, "figure.constrained_layout.use": True,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
})


# ---- what the other steps left here; any of it but clean.parquet may be missing ------------------------------

left_out = []


def find(name, what, read):
    """A file that another step made, or None where that step was left out."""
    if Path(name).exists():
        return read(name)
    left_out.append(what)
    print(f"no {name}: {what} left out")
    return None


clean = pd.read_parquet("clean.parquet")
trial = clean[clean["arm"].notna()]
coefs = find("coef.csv", "the Cox model (model.R)", pd.read_csv)
curves = find("curves.csv", "Kaplan-Meier curves (model.R)", pd.read_csv)
metrics = find("metrics.json", "the model's measures (model.R)", lambda name: json.loads(Path(name).read_text()))
rates = find("rates.csv", "death rates (tables.sps)", pd.read_csv)
parts = sorted(Path("scores").glob("*.csv"))
if parts:
    scores = pd.concat([pd.read_csv(part) for part in parts])
    scores["group"] = scores["last_stage"].map({2: "I-II", 3: "III", 4: "IV"})
else:
    scores = None
    left_out.append("Weibull curves (score.m)")
    print("no scores/*.csv: Weibull curves (score.m) left out")


# ---- words and numbers -----------------------------------------------------------------------------------------

def p_value(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def table(head, rows, note=""):
    """Rows of text; the first cell is a heading, and a row of one cell opens a group."""
    cells = "".join(f"<th>{cell}</th>" for cell in head)
    body = ""
    for first, *rest in rows:
        if rest:
            body += f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"
        else:
            body += f'<tr class="group"><th colspan="{len(head)}">{first}</th></tr>'
    note = f'<p class="note">{note}</p>' if note else ""
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>{note}'


def figure(fig, caption):
    """The drawing as SVG inside the page, its text set in the page's own type."""
    out = io.StringIO()
    fig.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    plt.close(fig)
    svg = out.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(re.sub("<.*?>", "", caption), quote=True)}"', 1)
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>"


# ---- the sections ----------------------------------------------------------------------------------------------

def baseline():
    """Who was randomised: median and quartiles, or count and per cent, for each arm."""
    arms = [trial[trial["arm"] == arm] for arm in ARMS] + [trial]
    rows = []

    def numbers(label, name, digits=1):
        cells = []
        for arm in arms:
            q1, q2, q3 = arm[name].astype(float).quantile([0.25, 0.5, 0.75])
            cells.append(f"{q2:.{digits}f} <small>({q1:.{digits}f}–{q3:.{digits}f})</small>")
        missing = int(trial[name].isna().sum())
        rows.append([label, *cells, missing or "–"])

    def counts(label, name, values):
        if len(values) > 1:
            rows.append([label])
        for value in values:
            n = [(arm[name] == value).sum() for arm in arms]
            cells = [f"{k} <small>({100 * k / len(arm):.0f} %)</small>" for k, arm in zip(n, arms)]
            rows.append([f'<span class="in">{value}</span>' if len(values) > 1 else label, *cells, "–"])

    numbers("Age, years", "age", 0)
    counts("Female", "sex", ["female"])
    counts("Histologic stage", "stage", ["I", "II", "III", "IV"])
    counts("Oedema", "edema", ["none", "controlled", "resistant"])
    counts("Ascites", "ascites", ["yes"])
    counts("Enlarged liver", "hepato", ["yes"])
    numbers("Bilirubin, mg/dl", "bili")
    numbers("Albumin, g/dl", "albumin", 2)
    numbers("Clotting time, s", "protime")
    numbers("Cholesterol, mg/dl", "chol", 0)
    numbers("Urine copper, µg/day", "copper", 0)
    numbers("Platelets, 1000/µl", "platelet", 0)
    names = [*ARMS, "All"]
    head = ["", *[f"{name}<br><small>n = {len(arm)}</small>" for name, arm in zip(names, arms)], "Missing"]
    return table(head, rows, "Median (quartiles), or number (per cent).")


def axes_of_time(ax, last=12):
    ax.set(xlim=(0, last), ylim=(0, 1.005), xlabel="Years since registration", ylabel="Alive")
    ax.set_xticks(range(0, last + 1, 2))
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.grid(axis="y", color=LINE, linewidth=0.6)
    ax.set_axisbelow(True)


def steps(ax, curve, colour, band=True, **style):
    """One Kaplan-Meier curve, from 1 at the start."""
    years, survival = [0, *curve["years"]], [1, *curve["survival"]]
    ax.step(years, survival, where="post", color=colour, **style)
    if band:
        known = curve.dropna(subset=["lower", "upper"])
        ax.fill_between(known["years"], known["lower"], known["upper"], step="post", color=colour, alpha=0.14, linewidth=0)


def by_arm():
    fig, (ax, risk) = plt.subplots(2, 1, figsize=(7.6, 4.6), height_ratios=[7, 1], sharex=True)
    axes_of_time(ax)
    ax.set_xlabel("")
    ticks = range(0, 13, 2)
    for row, (arm, colour) in enumerate(ARMS.items()):
        curve = curves[(curves["by"] == "arm") & (curves["level"] == arm)]
        steps(ax, curve, colour, linewidth=1.8, label=arm)
        for year in ticks:
            later = curve[curve["years"] >= year]
            risk.text(year, -row, f"{later['at_risk'].iloc[0] if len(later) else 0}", ha="center", va="center", color=colour)
    ax.legend(frameon=False, loc="lower left")
    risk.set(ylim=(-1.6, 0.6), xlabel="Years since registration")
    risk.set_yticks([0, -1], list(ARMS))
    risk.set_title("Still at risk", loc="left", fontsize=9, color=GREY, pad=2)
    risk.spines[["left", "bottom"]].set_visible(False)
    risk.tick_params(length=0)
    risk.tick_params(axis="y", pad=16)
    return figure(fig, f"Survival by arm, Kaplan and Meier’s estimate with its {level} interval. Transplanted patients are censored.")


def forest():
    """The hazard ratios drawn, with their numbers beside them."""
    fig, (ax, text) = plt.subplots(1, 2, figsize=(7.6, 0.36 * len(coefs) + 0.9), width_ratios=[5, 3], sharey=True)
    low, high = min(0.5, coefs["lower"].min() * 0.9), max(2, coefs["upper"].max() * 1.1)
    for y, row in enumerate(coefs[::-1].itertuples()):
        colour = ARMS.get(row.term, INK)
        ax.plot([row.lower, row.upper], [y, y], color=colour, linewidth=1.6, solid_capstyle="round")
        ax.plot(row.hr, y, marker="s", markersize=6.5, color=colour, markeredgecolor="white", markeredgewidth=0.8)
        text.text(0.68, y, f"{row.hr:.2f} ({row.lower:.2f}–{row.upper:.2f})", ha="right", va="center")
        text.text(1, y, p_value(row.p), ha="right", va="center", color=INK if row.p < alpha else GREY)
    for x, head in [(0.68, f"Hazard ratio ({level})"), (1, "p")]:
        text.text(x, len(coefs) - 0.35, head, ha="right", color=GREY, fontsize=9)
    text.set(xlim=(0, 1))
    text.set_axis_off()
    ax.axvline(1, color=GREY, linewidth=0.8, dashes=(3, 3))
    ax.set(xscale="log", xlim=(low, high), ylim=(-0.6, len(coefs) - 0.1))
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8) if low <= tick <= high]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(coefs)), coefs["term"][::-1], color=INK)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return figure(
        fig,
        f"Hazard ratios with their {level} intervals, from Cox’s proportional hazards model with all variables in it. "
        "Left of the line: lives longer; right of it: dies earlier.",
    )


def by_stage():
    fig, ax = plt.subplots(figsize=(7.6, 4))
    axes_of_time(ax)
    rows = []
    for group, colour in STAGES.items():
        if curves is not None:
            curve = curves[(curves["by"] == "group") & (curves["level"] == group)]
            steps(ax, curve, colour, band=False, linewidth=1, alpha=0.75)
        part = scores[scores["group"] == group] if scores is not None else []
        if len(part):
            ax.plot(part["years"], part["survival"], color=colour, linewidth=2.2)
            ax.fill_between(part["years"], part["lower"], part["upper"], color=colour, alpha=0.14, linewidth=0)
            five, first = part.iloc[(part["years"] - 5).abs().argmin()], part.iloc[0]
            rows.append([
                f'<span class="key" style="background:{colour}"></span>Stage {group.replace("-", "–")}',
                f"{first['shape']:.2f} <small>({first['shape_lower']:.2f}–{first['shape_upper']:.2f})</small>",
                f"{first['scale']:.1f}",
                f"{100 * five['survival']:.0f} % <small>({100 * five['lower']:.0f}–{100 * five['upper']:.0f})</small>",
            ])
        ax.plot([], [], color=colour, linewidth=2.2, label=f"Stage {group.replace('-', '–')}")
    ax.legend(frameon=False, loc="lower left")
    drawn = [text for text, there in [
        ("steps: Kaplan and Meier’s estimate", curves is not None),
        (f"smooth: Weibull’s curve with its {level} bootstrap interval", scores is not None),
    ] if there]
    drawing = figure(fig, f"Survival by histologic stage; {'; '.join(drawn)}.")
    head = ["", f"Shape ({level})", "Scale, years", f"Alive after 5 years ({level})"]
    return drawing + (table(head, rows, "A shape above 1 is a risk that grows with time.") if rows else "")


def death_rates():
    """One row for each stage; the arms stand side by side."""
    rows = []
    for group in STAGES:
        cells = []
        for arm in ARMS:
            row = rates[(rates["stage"] == group) & (rates["treatment"] == arm)].iloc[0]
            cells += [f"{row['deaths']:.0f} / {row['pyears']:.0f}", f"{row['rate']:.1f} <small>({row['lower']:.1f}–{row['upper']:.1f})</small>"]
        rows.append([f"Stage {group.replace('-', '–')}", *cells])
    head = ["", *[text for arm in ARMS for text in (f"{arm}<br><small>deaths / years</small>", f"Rate<br><small>({level})</small>")]]
    return table(head, rows, "Deaths per 100 patient-years, with the exact Poisson interval.")


# ---- the page --------------------------------------------------------------------------------------------------

tiles = [(len(trial), "patients randomised"), (trial["death"].sum(), "of them died")]
answer = "Whether the drug helped is not answered here: the model was left out."
if metrics and coefs is not None:
    drug = coefs[coefs["term"] == "D-penicillamine"].iloc[0]
    tiles += [
        (f"{drug['hr']:.2f}", f"hazard ratio of the drug, {level} interval {drug['lower']:.2f} to {drug['upper']:.2f}"),
        (f"{metrics['concordance_unseen']:.2f}", f"concordance on patients it never saw ({metrics['concordance']:.2f} on its own)"),
    ]
    helped = (
        "no evidence of a difference between the arms" if drug["p"] >= alpha
        else "fewer deaths on the drug" if drug["hr"] < 1 else "more deaths on the drug"
    )
    strongest = coefs.loc[(coefs["estimate"] / coefs["se"]).abs().idxmax(), "term"].split(",")[0].lower()
    answer = (
        f"The trial shows {helped} (hazard ratio {drug['hr']:.2f}, {level} interval {drug['lower']:.2f} to "
        f"{drug['upper']:.2f}; log-rank p = {p_value(metrics['logrank_p'])}). What tells most about a patient’s future is {strongest}."
    )

sections = [("Who took part", baseline(), "Python")]
if curves is not None:
    sections.append(("Did the drug help?", by_arm(), "R"))
if coefs is not None:
    sections.append(("What carries the risk", forest(), "R"))
if scores is not None or curves is not None:
    made = " and ".join(name for name, there in [("Octave", scores is not None), ("R", curves is not None)] if there)
    sections.append(("How stage shapes survival", by_stage(), made))
if rates is not None:
    sections.append(("Deaths per patient-year", death_rates(), "PSPP"))

body = "".join(
    f'<section><h2><span class="by">{made}</span>{escape(title)}</h2>{content}</section>' for title, content, made in sections
)
if left_out:
    items = "".join(f"<li>{escape(what)}</li>" for what in left_out)
    body += f'<section class="missing"><h2>Left out of this report</h2><p>These parts were not made in this run:</p><ul>{items}</ul></section>'
numbers = "".join(f"<div><b>{value}</b><span>{text}</span></div>" for value, text in tiles)

page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>D-penicillamine in primary biliary cirrhosis</title>
<style>
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f4f5f7; color: {INK}; font: 16px/1.55 "Inter", "Source Sans 3", "Segoe UI", system-ui, sans-serif; }}
main {{ max-width: 54rem; margin: 2rem auto; padding: 3.2rem clamp(1.2rem, 6vw, 4.5rem); background: #fff; border: 1px solid #e4e7eb; border-radius: 6px; }}
h1, h2 {{ font-family: "Source Serif 4", Charter, Georgia, "Times New Roman", serif; font-weight: 600; line-height: 1.2; }}
h1 {{ font-size: 2.1rem; margin: 0 0 .5rem; letter-spacing: -.01em; }}
h2 {{ font-size: 1.35rem; margin: 3rem 0 1rem; padding-bottom: .4rem; border-bottom: 1px solid {LINE}; }}
p {{ max-width: 42rem; }}
.kicker, .by {{ font: 600 .72rem/1 "Inter", "Segoe UI", system-ui, sans-serif; letter-spacing: .07em; text-transform: uppercase; color: {GREY}; }}
.kicker {{ margin-bottom: .7rem; }}
.by {{ float: right; margin-top: .55rem; }}
.lead {{ font-size: 1.1rem; }}
.numbers {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 1.5rem; margin: 2rem 0 0; }}
.numbers div {{ border-top: 3px solid {ARMS["D-penicillamine"]}; padding-top: .6rem; }}
.numbers b {{ display: block; font-size: 1.9rem; line-height: 1.1; font-variant-numeric: tabular-nums; }}
.numbers span, .note, figcaption, footer {{ color: {GREY}; font-size: .86rem; }}
.wide {{ overflow-x: auto; }}
table {{ width: 100%; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .34rem .6rem; text-align: right; white-space: nowrap; vertical-align: bottom; }}
th:first-child {{ text-align: left; padding-left: 0; }}
td:last-child, thead th:last-child {{ padding-right: 0; }}
thead th {{ border-bottom: 1.5px solid {INK}; font-weight: 600; }}
tbody th {{ font-weight: 400; }}
tbody tr + tr > * {{ border-top: 1px solid #edeff2; }}
tbody tr:last-child > * {{ border-bottom: 1.5px solid {INK}; }}
.group th {{ color: {GREY}; padding-top: .7rem; }}
.in {{ padding-left: 1.1rem; }}
.key {{ display: inline-block; width: .7rem; height: .7rem; border-radius: 2px; margin-right: .5rem; }}
small {{ color: {GREY}; font-size: .86em; font-weight: 400; }}
figure {{ margin: 0 0 1.2rem; }}
figure svg {{ display: block; width: 100%; height: auto; }}
figure svg text {{ font-family: inherit !important; }}
.note {{ margin: .5rem 0 0; }}
.missing ul {{ padding-left: 1.2rem; }}
footer {{ margin-top: 3rem; padding-top: 1rem; border-top: 1px solid {LINE}; }}
@media print {{ body {{ background: #fff; }} main {{ border: 0; margin: 0; padding: 0; max-width: none; }} section {{ break-inside: avoid; }} }}
</style>
</head>
<body><main>
<div class="kicker">Mayo Clinic trial, 1974 to 1984</div>
<h1>D-penicillamine in primary biliary cirrhosis</h1>
<p class="lead">{answer}</p>
<div class="numbers">{numbers}</div>
{body}
<footer>Data: <i>pbc</i> from the R package survival (LGPL), after Fleming and Harrington 1991. {len(clean) - len(trial)} more patients were
followed without being randomised{'; the model is checked on them' if metrics else ''}. All intervals: {level}.</footer>
</main></body>
</html>
"""
Path("report.html").write_text(page, encoding="utf-8")
print(f"report.html: {len(sections)} sections, {len(page) // 1024} kB")
