# term_tests.json: F tests of fixed-effects terms, types I to III, by lmerTest 3.1-3 and pbkrtest 0.5.2 (R 4.2.2).
#
#   Rscript term_tests.R    (in this folder)
suppressMessages({library(lmerTest); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10))
all <- read.csv("politeness.csv", stringsAsFactors = TRUE)
all$s <- factor(all$scenario)
# An empty cell, and unequal ones.
cell <- all[!(all$s == 3 & all$attitude == "pol") & !(all$subject == "F1" & all$s %in% c(1, 2)), ]
fit <- function(formula, data, ...) lmer(formula, data, control = control, ...)
model <- function(fit, formula, factor = "", rows = "all", contrasts = "")
  list(fit = fit, case = list(formula = formula, factor = factor, rows = rows, contrasts = contrasts))
models <- list(
  model(fit(frequency ~ attitude * s + (1|subject), all), "frequency ~ attitude * scenario + (1 | subject)", "scenario"),
  model(fit(frequency ~ gender * scenario + (1|subject), all), "frequency ~ gender * scenario + (1 | subject)"),
  model(fit(frequency ~ attitude * s + (1|subject), cell), "frequency ~ attitude * scenario + (1 | subject)", "scenario", "cell"),
  model(fit(frequency ~ attitude * s + (1|subject), cell, contrasts = list(attitude = "contr.sum", s = "contr.helmert")),
        "frequency ~ attitude * scenario + (1 | subject)", "scenario", "cell", "attitude=sum,scenario=helmert"),
  model(fit(frequency ~ poly(scenario, 2) + attitude + (1|subject), cell),
        "frequency ~ poly(scenario, 2) + attitude + (1 | subject)", rows = "cell"))
out <- list()
for (m in models) for (type in 1:3) for (ddf in c("Satterthwaite", "Kenward-Roger")) {
  table <- as.data.frame(suppressMessages(anova(m$fit, type = type, ddf = ddf)))
  out[[length(out) + 1]] <- c(m$case, list(type = type, ddf = tolower(ddf), 
    terms = sub("^s$", "scenario", sub(":s$", ":scenario", rownames(table))),
    sum_sq = table[, 1], df1 = table[, 3], df2 = table[, 4], f = table[, 5], p = table[, 6]))
}
writeLines(toJSON(out, auto_unbox = TRUE, digits = 10), "term_tests.json")
