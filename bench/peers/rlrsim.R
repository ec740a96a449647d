# RLRsim's exactRLRT: the null distribution of the restricted likelihood-ratio statistic of one variance component. With
# another component in both models it holds that one's estimate fixed, so a draw is cheaper than two fits.
packages <- c("lme4", "RLRsim")

prepare <- function(null, full, data) {
  larger <<- lmer(full, data)
  smaller <<- lmer(null, data)
  # The model that has the tested component alone.
  bars <- function(f) vapply(findbars(f), function(bar) paste0("(", deparse(bar), ")"), "")
  tested <- setdiff(bars(full), bars(null))
  fixed <- nobars(full)
  only <- as.formula(paste(deparse(fixed), "+", paste(tested, collapse = " + ")))
  alone <<- lmer(only, data)
  list()
}

perform <- function(n, seed) {
  result <- exactRLRT(alone, larger, smaller, nsim = n, seed = seed)
  n
}
