# The study of Matuschek et al. (2017) by lme4, as bench/studies/matuschek2017.toml has it: responses from the truth
# below, ten fits by maximum likelihood each (five models, then their nulls), likelihood-ratio tests, and the models that
# AIC and backward tests choose. Default optimizer; refit(), faster than lmer() anew. It starts where the model's fit
# ended, and a variance that was estimated at zero stays there: the first fits are to a response with large slopes.
packages <- "lme4"

prepare <- function(...) {
  arguments <- list(...)
  rows <<- arguments[[length(arguments)]]
  set.seed(1)
  rows$y <<- respond(150)
  models <<- lapply(arguments[-length(arguments)], function(formula) lmer(formula, rows, REML = FALSE))
  list(models = length(models))
}

# Correlated intercepts and slopes of one factor: standard deviations 100 and `slopes`, correlation 0.6.
effects <- function(factor, slopes) {
  z <- matrix(rnorm(2 * nlevels(factor)), ncol = 2)
  intercept <- 100 * z[, 1]
  slope <- slopes * (0.6 * z[, 1] + 0.8 * z[, 2])
  intercept[factor] + slope[factor] * rows$c
}

respond <- function(slopes) {
  2000 + 25 * rows$c + effects(rows$subject, slopes) + effects(rows$item, slopes) + rnorm(nrow(rows), 0, 300)
}

# From the largest model to the smallest, as long as a test at 0.2 does not speak against it.
backward <- function(deviances, parameters, path) {
  chosen <- path[1]
  for (smaller in path[-1]) {
    p <- pchisq(deviances[smaller] - deviances[chosen], parameters[chosen] - parameters[smaller], lower.tail = FALSE)
    if (p < 0.2) break
    chosen <- smaller
  }
  chosen
}

perform <- function(n, seed) {
  set.seed(seed)
  tests <- c("maximal", "zero_correlation", "subject_slope", "item_slope", "intercepts", "chosen_by_aic",
             "chosen_by_tests")
  rejected <- setNames(numeric(length(tests)), tests)
  parameters <- vapply(models[1:5], function(m) attr(logLik(m), "df"), 0)
  for (i in seq_len(n)) {
    response <- respond(40)
    deviances <- vapply(models, function(m) -2 * as.numeric(logLik(refit(m, response))), 0)
    significant <- deviances[6:10] - deviances[1:5] > qchisq(0.95, 1)
    by_aic <- which.min(deviances[1:5] + 2 * parameters)
    by_tests <- backward(deviances, parameters, c(1, 2, 3, 5))
    rejected <- rejected + c(significant, significant[by_aic], significant[by_tests])
  }
  c(list(count = n), setNames(as.list(unname(rejected)), paste0("rejected_", tests)))
}
