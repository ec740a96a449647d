# What R prints for fits and likelihood-ratio tests of lme4, with the numbers behind it: fits/*.json and anova.json.
#
#   LC_ALL=C.UTF-8 Rscript printed.R DATA_DIR OUT_DIR
#
# DATA_DIR holds the data sets as CSV; R 4.2.2, lme4 1.1-31, lines of 80 columns.
suppressMessages({library(lme4); library(jsonlite)})
args <- commandArgs(TRUE); ref <- args[1]; out <- args[2]; dir.create(file.path(out, "fits"), FALSE, TRUE)
case <- function(csv, formula, REML = TRUE, factors = character(), alter = identity)
  list(csv = csv, formula = formula, REML = REML, factors = factors, alter = alter)
cases <- list(
  politeness       = case("politeness", frequency ~ attitude + gender + (1 | subject) + (1 | scenario), factors = "scenario"),
  politeness_slopes = case("politeness", frequency ~ attitude + gender + (1 + attitude | subject) + (1 + attitude | scenario), FALSE, "scenario"),
  sleepstudy       = case("sleepstudy", Reaction ~ Days + (Days | Subject), factors = "Subject"),
  sleep_zerocorr   = case("sleepstudy", Reaction ~ Days + (1 | Subject) + (0 + Days | Subject), FALSE, "Subject"),
  dyestuff2        = case("dyestuff2", Yield ~ 1 + (1 | Batch)),
  penicillin       = case("penicillin", diameter ~ 1 + (1 | plate) + (1 | sample)),
  pastes           = case("pastes", strength ~ 1 + (1 | batch/cask), FALSE),
  machines         = case("machines", score ~ Machine + (0 + Machine | Worker), factors = "Worker"),
  machines_nested  = case("machines", score ~ Machine + (1 | Worker/Machine), factors = "Worker"),
  cake             = case("cake", angle ~ recipe * temp + (1 | recipe:replicate), factors = "replicate"),
  oats             = case("oats", yield ~ nitro * Variety + (1 | Block/Variety), factors = "Block"),
  sleep_days       = case("sleepstudy", log(Reaction) ~ factor(Days) + (1 | Subject), factors = "Subject"),
  sleep_deficient  = case("sleepstudy", Reaction ~ Days + I(2 * Days) + (1 | Subject), factors = "Subject"),
  sleep_small      = case("sleepstudy", I(Reaction / 1e+06) ~ I(Days * 1000) + (I(Days * 1000) | Subject), factors = "Subject"),
  sleep_large      = case("sleepstudy", I(Reaction * 1e+07) ~ poly(Days, 3) + (1 | Subject), FALSE, "Subject")
)
lines <- function(expression) paste0(paste(capture.output(expression), collapse = "\n"), "\n")
for (name in names(cases)) {
  c1 <- cases[[name]]; file <- paste0(c1$csv, ".csv")
  d <- read.csv(file.path(ref, file), stringsAsFactors = TRUE); for (f in c1$factors) d[[f]] <- factor(d[[f]])
  assign(file, c1$alter(d))
  m <- suppressMessages(suppressWarnings(eval(bquote(lmer(.(c1$formula), data = .(as.name(file)), REML = .(c1$REML),
         control = lmerControl(calc.derivs = FALSE))))))
  m@call$control <- NULL
  s <- summary(m); vc <- VarCorr(m); cn <- m@cnms
  rank <- attr(getME(m, "X"), "col.dropped"); terms <- getME(m, "Ztlist"); fl <- getME(m, "flist"); asgn <- attr(fl, "assign")
  b <- as.numeric(getME(m, "b")); Gp <- getME(m, "Gp")
  random <- lapply(seq_along(cn), function(i) list(group = names(fl)[asgn[i]], names = I(cn[[i]]), levels = levels(fl[[asgn[i]]]),
    sd = I(unname(attr(vc[[i]], "stddev"))), corr = unname(attr(vc[[i]], "correlation")),
    modes = matrix(b[(Gp[i] + 1):Gp[i + 1]], ncol = length(cn[[i]]), byrow = TRUE)))
  write_json(list(csv = file, formula = paste(deparse(c1$formula, 500), collapse = " "), REML = c1$REML, nobs = nobs(m), parameters = attr(logLik(m), "df"),
    rows_dropped = nrow(get(file)) - nobs(m),
    logLik = as.numeric(logLik(m)), AIC = AIC(logLik(m)), BIC = BIC(logLik(m)), criterion = unname(if (c1$REML) REMLcrit(m) else deviance(m)),
    singular = isSingular(m), sigma = sigma(m), dropped_columns = I(as.character(names(rank))), names = I(names(fixef(m))), beta = I(unname(fixef(m))), vcov = unname(as.matrix(vcov(m))),
    scaled_residuals = unname(residuals(m, "pearson", scaled = TRUE)), random = random,
    summary = lines(print(s)), ranef = lines(print(unclass(ranef(m, condVar = FALSE)))), coef = lines(print(unclass(coef(m))))),
    file.path(out, "fits", paste0(name, ".json")), auto_unbox = TRUE, digits = NA, pretty = FALSE, null = "null", na = "string")
}

tests <- list(
  no_star         = list("politeness", frequency ~ attitude + gender + (1 | subject) + (1 | scenario), frequency ~ attitude * gender + (1 | subject) + (1 | scenario)),
  three_stars     = list("politeness", frequency ~ gender + (1 | subject) + (1 | scenario), frequency ~ attitude + gender + (1 | subject) + (1 | scenario)),
  two_stars       = list("politeness", frequency ~ gender + (1 + attitude | subject) + (1 + attitude | scenario), frequency ~ attitude + gender + (1 + attitude | subject) + (1 + attitude | scenario)),
  one_star        = list("oats", yield ~ nitro + (1 | Block), yield ~ nitro + Variety + (1 | Block)),
  point           = list("cake", angle ~ temp + (1 | replicate), angle ~ temp + recipe + (1 | replicate)),
  below_epsilon   = list("sleepstudy", Reaction ~ 1 + (1 | Subject), Reaction ~ Days + (1 | Subject)),
  variance        = list("sleepstudy", Reaction ~ Days + (1 | Subject), Reaction ~ Days + (Days | Subject)),
  nothing_gained  = list("dyestuff2", Yield ~ 1 + (1 | Batch), Yield ~ 1 + (1 | Batch) + (0 + I(as.numeric(Batch)) | Batch))
)
printed <- lapply(tests, function(t1) {
  file <- paste0(t1[[1]], ".csv"); d <- read.csv(file.path(ref, file), stringsAsFactors = TRUE)
  for (f in intersect(names(d), c("Subject", "scenario", "Block", "replicate"))) d[[f]] <- factor(d[[f]])
  assign(file, d, globalenv())
  fit <- function(formula) suppressMessages(suppressWarnings(eval(bquote(lmer(.(formula), data = .(as.name(file)), REML = FALSE)))))
  m0 <- fit(t1[[2]]); m1 <- fit(t1[[3]]); a <- anova(m0, m1)
  model <- function(m) list(formula = paste(deparse(formula(m), 500), collapse = " "), parameters = attr(logLik(m), "df"), AIC = AIC(m), BIC = BIC(m),
    logLik = as.numeric(logLik(m)), deviance = deviance(m))
  list(data = file, models = list(model(m0), model(m1)), statistic = a$Chisq[2], df = a$Df[2], p = a$`Pr(>Chisq)`[2], text = lines(print(a)))
})
write_json(printed, file.path(out, "anova.json"), auto_unbox = TRUE, digits = NA)
for (t1 in printed) cat(t1$text)
