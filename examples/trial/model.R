# Who survives? A Cox model of the randomised patients, checked on those who were only followed.
library(survival)
library(jsonlite)

# Rscript model.R [--alpha 0.05] [--ties efron]
args <- commandArgs(trailingOnly = TRUE)
option <- function(name, default) {
  at <- match(paste0("--", name), args)
  if (is.na(at)) default else args[at + 1]
}
alpha <- as.numeric(option("alpha", "0.05"))
ties <- option("ties", "efron")
stopifnot(alpha > 0, alpha < 1)

all <- read.csv("clean.csv", na.strings = c("", "NA"))
all$arm <- relevel(factor(all$arm), ref = "placebo")
all$edema <- factor(all$edema, levels = c("none", "controlled", "resistant"))
trial <- subset(all, !is.na(arm))
others <- subset(all, is.na(arm))

fit <- coxph(
  Surv(years, death) ~ arm + I(age / 10) + I(sex == "male") + edema + log2(bili) + I(-albumin) + protime,
  data = trial, ties = ties, x = TRUE
)
cat(sprintf("Cox model: %d patients, %d deaths, %s ties\n", fit$n, fit$nevent, ties))

labels <- c(
  "D-penicillamine", "Age, per 10 years", "Male", "Oedema, controlled", "Oedema, resistant",
  "Bilirubin, per doubling", "Albumin, per g/dl less", "Clotting time, per second"
)
z <- qnorm(1 - alpha / 2)
table <- coef(summary(fit))
coefs <- data.frame(
  term = labels,
  estimate = table[, "coef"], se = table[, "se(coef)"],
  hr = exp(table[, "coef"]),
  lower = exp(table[, "coef"] - z * table[, "se(coef)"]),
  upper = exp(table[, "coef"] + z * table[, "se(coef)"]),
  p = table[, "Pr(>|z|)"],
  row.names = NULL
)
write.csv(coefs, "coef.csv", row.names = FALSE)
saveRDS(fit, "fit.rds")

# Does it rank patients that it has never seen? They were not treated: the model's placebo arm.
seen <- concordance(fit)
others$arm <- factor("placebo", levels = levels(all$arm))
others$risk <- predict(fit, newdata = others, type = "lp", reference = "zero")
unseen <- concordance(Surv(years, death) ~ risk, data = others, reverse = TRUE)
proportional <- cox.zph(fit)$table["GLOBAL", "p"]
logrank <- survdiff(Surv(years, death) ~ arm, data = trial)
cat(sprintf("concordance %.3f, on %d patients it has not seen %.3f\n", seen$concordance, sum(unseen$n), unseen$concordance))

# Kaplan and Meier's curves, by arm and by stage
curve <- function(by) {
  km <- survfit(reformulate(by, "Surv(years, death)"), data = trial, conf.int = 1 - alpha, conf.type = "log-log")
  data.frame(
    by = by, level = rep(sub("^.*=", "", names(km$strata)), km$strata),
    years = km$time, at_risk = km$n.risk, survival = km$surv, lower = km$lower, upper = km$upper
  )
}
write.csv(rbind(curve("arm"), curve("group")), "curves.csv", row.names = FALSE, na = "")

write_json(
  list(
    patients = fit$n, deaths = fit$nevent,
    concordance = round(seen$concordance, 4), concordance_unseen = round(unseen$concordance, 4),
    hazard_ratio = round(coefs$hr[1], 4), hazard_ratio_p = signif(coefs$p[1], 4),
    logrank_p = signif(pchisq(logrank$chisq, 1, lower.tail = FALSE), 4),
    proportional_p = signif(proportional, 4)
  ),
  "metrics.json", auto_unbox = TRUE, pretty = TRUE, digits = NA
)
cat(sprintf(
  "D-penicillamine: hazard ratio %.2f, %g%% interval %.2f to %.2f\n",
  coefs$hr[1], 100 * (1 - alpha), coefs$lower[1], coefs$upper[1]
))
