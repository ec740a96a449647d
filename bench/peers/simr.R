# A power curve along subjects as bench/studies/examples/table.toml has it: the fit's own values but a slope of 4, tables
# of 6, 12, 18 and 24 subjects, a likelihood-ratio test of the slope; a replicate is one simulated table of one size.
#
# With simr by its powerCurve. Where simr is not installed, by the calls of lme4 that its source makes: a response for
# the largest table by simulate() with new data, for each size lmer() anew on its rows, and drop1() of the slope. What
# simr does around them is left out, so that this is somewhat faster than simr.
packages <- "lme4"
sizes <- c(6, 12, 18, 24)
with_simr <- requireNamespace("simr", quietly = TRUE)

prepare <- function(full, null, rows) {
  pilot <<- eval(bquote(lmer(.(full), rows)))
  if (with_simr) {
    suppressPackageStartupMessages(library(simr))
    rows <<- rows
    fixef(pilot)["Days"] <<- 4
    extended <<- extend(pilot, along = "Subject", n = max(sizes))
    return(list(by = "powerCurve of simr", simr = format(packageVersion("simr"))))
  }
  subjects <- levels(rows$Subject)
  grown <<- do.call(rbind, lapply(seq_len(max(sizes)), function(i) {
    part <- rows[rows$Subject == subjects[(i - 1) %% length(subjects) + 1], ]
    part$Subject <- sprintf("s%02d", i)
    part
  }))
  grown$Subject <<- factor(grown$Subject)
  values <<- list(beta = c(fixef(pilot)[1], Days = 4), theta = getME(pilot, "theta"), sigma = sigma(pilot))
  model <<- full
  list(by = "lme4, by the calls that simr makes")
}

perform <- function(n, seed) {
  each <- max(1, round(n / length(sizes)))
  if (with_simr) {
    found <- powerCurve(extended, test = fixed("Days", "lr"), along = "Subject", breaks = sizes, nsim = each,
                        seed = seed, progress = FALSE)
    return(list(count = each * length(sizes), rejected_lrt = sum(summary(found)$successes)))
  }
  set.seed(seed)
  rejected <- 0
  for (i in seq_len(each)) {
    grown$Reaction <- simulate(model[-2], newdata = grown, newparams = values, family = gaussian)[[1]]
    for (size in sizes) {
      part <- grown[grown$Subject %in% head(levels(grown$Subject), size), ]
      fit <- lmer(Reaction ~ Days + (Days | Subject), part)
      p <- drop1(fit, ~Days, test = "Chisq")["Days", "Pr(Chi)"]
      rejected <- rejected + (p < 0.05)
    }
  }
  list(count = each * length(sizes), rejected_lrt = rejected)
}
