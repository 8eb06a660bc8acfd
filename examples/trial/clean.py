"""Read the trial's raw file, give its codes their names, and split it by stage."""
from pathlib import Path

import pandas as pd

raw = pd.read_csv("data/pbc.csv")
print(f"{len(raw)} patients read, {raw['trt'].notna().sum()} of them randomised")


def named(column, names):
    """A column of codes as an ordered category."""
    labels = list(dict.fromkeys(names.values()))
    return pd.Categorical(raw[column].map(names), categories=labels, ordered=True)


no_yes = {0: "no", 1: "yes"}
clean = pd.DataFrame({
    "id": raw["id"],
    "arm": named("trt", {2: "placebo", 1: "D-penicillamine"}),  # missing: followed, but not randomised
    "years": (raw["time"] / 365.25).round(4),
    "outcome": named("status", {0: "alive", 1: "transplanted", 2: "died"}),
    "death": (raw["status"] == 2).astype("int8"),  # a transplanted patient is censored on that day
    "age": raw["age"].round(1),
    "sex": named("sex", {"f": "female", "m": "male"}),
    "stage": named("stage", {1: "I", 2: "II", 3: "III", 4: "IV"}),
    "group": named("stage", {1: "I-II", 2: "I-II", 3: "III", 4: "IV"}),
    "ascites": named("ascites", no_yes),
    "hepato": named("hepato", no_yes),
    "spiders": named("spiders", no_yes),
    "edema": named("edema", {0.0: "none", 0.5: "controlled", 1.0: "resistant"}),
    "bili": raw["bili"],
    "albumin": raw["albumin"],
    "protime": raw["protime"],
    "alk_phos": raw["alk.phos"],
    "ast": raw["ast"],
    "chol": raw["chol"].astype("Int32"),
    "copper": raw["copper"].astype("Int32"),
    "trig": raw["trig"].astype("Int32"),
    "platelet": raw["platelet"].astype("Int32"),
})

if not clean["id"].is_unique or (clean["years"] <= 0).any() or (clean["bili"] <= 0).any():
    raise SystemExit("data/pbc.csv: an id occurs twice, or a time or bilirubin is not positive")

missing = clean[clean["arm"].notna()].isna().sum()
print("missing among the randomised:", ", ".join(f"{n} {name}" for name, n in missing[missing > 0].items()))
clean.to_parquet("clean.parquet", index=False)

# One file of plain numbers per stage, for the curves. Stages I and II are one part: few of them died.
Path("parts").mkdir(exist_ok=True)
trial = clean[clean["arm"].notna()].assign(last_stage=raw["stage"].clip(lower=2).astype("Int32"))
for name, part in trial.groupby("group", observed=True):
    part[["last_stage", "years", "death"]].to_csv(f"parts/stage-{name}.csv", index=False)
    print(f"parts/stage-{name}.csv: {len(part)} patients, {part['death'].sum()} died")
