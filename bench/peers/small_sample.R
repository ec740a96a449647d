# lmerTest's and pbkrtest's tests of every coefficient of one fitted model (REML): the table of `summary`. A fit's own
# time is taken beside them by `fit` in the place of PEER_TESTS.
packages <- c("lme4", "lmerTest", "pbkrtest")
ddf <- Sys.getenv("PEER_TESTS", "Kenward-Roger")

prepare <- function(formula, rows) {
  rows <<- rows
  response <<- rows[[as.character(formula[[2]])]]
  model <<- eval(bquote(lmerTest::lmer(.(formula), rows)))
  list(criterion = REMLcrit(model))
}

perform <- function(n, seed) {
  for (i in seq_len(n)) if (ddf == "fit") refit(model, response) else coef(summary(as(model, "lmerModLmerTest"), ddf = ddf))
  n
}
