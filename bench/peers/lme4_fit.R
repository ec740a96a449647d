# One fit by lme4 from a data frame in memory to the fitted model.
packages <- "lme4"

prepare <- function(formula, data) {
  fitting <<- bquote(lmer(.(formula), rows, REML = FALSE))
  rows <<- data
  list()
}

perform <- function(n, seed) {
  for (i in seq_len(n)) eval(fitting, globalenv())
  n
}
