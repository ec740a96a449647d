# pbkrtest's parametric-bootstrap likelihood-ratio test: a replicate is a draw and lme4's refits of both models.
packages <- c("lme4", "pbkrtest")

prepare <- function(null, full, rows) {
  # PBmodcomp evaluates the models' calls again: what they name must be found from anywhere.
  rows <<- rows
  smaller <<- eval(bquote(lmer(.(null), rows, REML = FALSE)))
  larger <<- eval(bquote(lmer(.(full), rows, REML = FALSE)))
  list(statistic = 2 * as.numeric(logLik(larger) - logLik(smaller)))
}

perform <- function(n, seed) {
  PBmodcomp(larger, smaller, nsim = n, seed = seed)
  n
}
