# lme4's bootMer: draws from one model, refits it, keeps fixed effects and theta.
packages <- "lme4"

prepare <- function(formula, data) {
  model <<- lmer(formula, data, REML = FALSE)
  list(criterion = -2 * as.numeric(logLik(model)))
}

perform <- function(n, seed) {
  boot <- bootMer(model, function(m) c(fixef(m), getME(m, "theta")), nsim = n, seed = seed)
  nrow(boot$t)
}
