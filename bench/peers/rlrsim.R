# RLRsim's exactRLRT: the null distribution of the restricted likelihood-ratio statistic of one variance component. With
# another component in both models it holds that one's estimate fixed, so a draw is cheaper than two fits; with one
# component in all the law is exact, but for the grid on which it takes each draw's maximum.
packages <- c("lme4", "RLRsim")

prepare <- function(...) {
  given <- list(...)
  if (length(given) == 3) return(two_models(given[[1]], given[[2]], given[[3]]))
  alone <<- lmer(given[[1]], given[[2]])
  test <<- function(n, seed) exactRLRT(alone, nsim = n, seed = seed)
  list(statistic = unname(test(2, 1)$statistic))
}

two_models <- function(null, full, data) {
  larger <<- lmer(full, data)
  smaller <<- lmer(null, data)
  # The model that has the tested component alone.
  bars <- function(f) vapply(findbars(f), function(bar) paste0("(", deparse(bar), ")"), "")
  tested <- setdiff(bars(full), bars(null))
  fixed <- nobars(full)
  only <- as.formula(paste(deparse(fixed), "+", paste(tested, collapse = " + ")))
  alone <<- lmer(only, data)
  test <<- function(n, seed) exactRLRT(alone, larger, smaller, nsim = n, seed = seed)
  list()
}

perform <- function(n, seed) {
  test(n, seed)
  n
}
