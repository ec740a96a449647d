# nlme's simulate.lme: draws from one model with one grouping factor and refits it by maximum likelihood, in C.
packages <- "nlme"

# simulate.lme looks its formulas up in the call: both must stand there as written.
prepare <- function(formula, data) {
  rows <<- data
  bar <- formula[[3]][[3]][[2]]  # y ~ fixed + (random | group)
  fixed <- formula
  fixed[[3]] <- formula[[3]][[2]]
  random <- as.formula(call("~", bar))
  model <<- eval(bquote(lme(.(fixed), data = rows, random = .(random), method = "ML")))
  list(criterion = -2 * as.numeric(logLik(model)))
}

perform <- function(n, seed) {
  result <- simulate(model, nsim = n, seed = seed, method = "ML")
  nrow(result$null$ML)
}
