# lme4 without anything around it: responses by `simulate`, each fitted by `refit`; for a test, by both models.
packages <- "lme4"

prepare <- function(...) {
  arguments <- list(...)
  data <- arguments[[length(arguments)]]
  models <<- lapply(arguments[-length(arguments)], function(formula) lmer(formula, data, REML = FALSE))
  deviances <- vapply(models, function(m) -2 * as.numeric(logLik(m)), 0)
  if (length(models) == 1) list(criterion = deviances) else list(statistic = deviances[1] - deviances[2])
}

perform <- function(n, seed) {
  for (response in simulate(models[[1]], n, seed = seed)) for (model in models) refit(model, response)
  n
}
