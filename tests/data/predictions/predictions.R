# Writes the golden numbers beside it: Rscript predictions.R in this folder.
# R 4.2.2 with lme4 1.1-31, broom.mixed 0.2.9.4, performance 0.10.2, insight 0.19.0, lmerTest 3.1-3, jsonlite.
suppressMessages({library(lme4); library(broom.mixed); library(performance); library(jsonlite)})
options(digits = 17)

# Henderson's mixed model equations by dense algebra: standard errors of predictions given the covariance parameters.
# Rows of new data bring model matrices x and z; chosen columns of z only.
henderson <- function(m, x, z) {
  X <- getME(m, "X"); Z <- as.matrix(getME(m, "Z")); Lambda <- as.matrix(t(getME(m, "Lambdat")))
  W <- Z %*% Lambda
  C <- rbind(cbind(crossprod(W) + diag(ncol(W)), crossprod(W, X)), cbind(crossprod(X, W), crossprod(X)))
  a <- cbind(z %*% Lambda, x)
  sigma(m) * sqrt(rowSums((a %*% solve(C)) * a))
}

# lmer's optimum, and from there Newton steps on derivatives by Richardson's extrapolation: lmer alone leaves errors of
# some 1e-5 in theta.
polished <- function(formula, data, reml) {
  parts <- lFormula(formula, data, REML = reml)
  devfun <- do.call(mkLmerDevfun, parts)
  opt <- optimizeLmer(devfun)
  free <- !(parts$reTrms$lower == 0 & opt$par < 1e-3)  # the others are at the boundary
  opt$par[!free] <- 0
  f <- function(x) devfun(replace(opt$par, free, x))
  for (i in 1:4)
    opt$par[free] <- opt$par[free] - solve(numDeriv::hessian(f, opt$par[free]), numDeriv::grad(f, opt$par[free]))
  opt$fval <- devfun(opt$par)
  mkMerMod(environment(devfun), opt, parts$reTrms, fr = parts$fr)
}

case <- function(name, formula, file, newdata, forms, reml = TRUE, options = character(),
                 prepare = identity) {
  data <- prepare(read.csv(file.path("..", file), stringsAsFactors = TRUE))
  m <- polished(formula, data, reml)
  mt <- lmerTest::lmer(formula, data, REML = reml)
  write.csv(newdata, paste0(name, ".csv"), row.names = FALSE, quote = FALSE)
  newdata <- read.csv(paste0(name, ".csv"), stringsAsFactors = TRUE)
  # read.csv gives factors the levels of the new data; R wants those of the fit.
  for (v in names(newdata)) if (is.factor(newdata[[v]]) && !(v %in% names(getME(m, "flist"))))
    newdata[[v]] <- factor(newdata[[v]], levels = levels(data[[v]]))
  nd <- prepare(newdata)
  predictions <- lapply(forms, function(f)
    list(re = f$name, fit = unname(predict(m, newdata = nd, re.form = f$form, allow.new.levels = TRUE))))
  own <- lapply(forms, function(f) list(re = f$name, fit = unname(predict(m, re.form = f$form))))
  x <- getME(m, "X")
  se_all <- henderson(m, x, as.matrix(getME(m, "Z")))
  se_none <- sqrt(rowSums((x %*% as.matrix(vcov(m))) * x))
  modes <- as.data.frame(ranef(m, condVar = TRUE))
  glanced <- as.list(as.data.frame(glance(m)))
  # Nakagawa, Schielzeth and Johnson; performance gives none for singular fits, and takes no account of random slopes
  # without fixed ones.
  parts <- c(var(as.vector(x %*% fixef(m))),
             sigma(m)^2 * mean(rowSums(as.matrix(getME(m, "Z") %*% t(getME(m, "Lambdat")))^2)), sigma(m)^2)
  r2 <- c(parts[1], parts[1] + parts[2]) / sum(parts)
  icc <- parts[2] / c(parts[2] + parts[3], sum(parts))
  if (!isSingular(m) && all(unlist(m@cnms) %in% colnames(x)))
    stopifnot(all.equal(r2, unname(unlist(performance::r2_nakagawa(m)[c("R2_marginal", "R2_conditional")]))),
              all.equal(icc, unlist(performance::icc(m))[1:2], check.attributes = FALSE))
  tidied <- as.data.frame(tidy(m, effects = c("fixed", "ran_pars", "ran_vals"), conf.int = TRUE))
  tests <- as.data.frame(tidy(mt, effects = "fixed", conf.int = TRUE))
  out <- list(
    formula = paste(deparse(formula, width.cutoff = 500), collapse = " "), file = file, reml = reml, options = options,
    criterion = if (reml) REMLcrit(m) else deviance(m, REML = FALSE),
    predictions = predictions, own = own, se_all = unname(se_all), se_none = unname(se_none),
    modes = data.frame(group = as.character(modes$grpvar), term = as.character(modes$term),
                       level = as.character(modes$grp), value = modes$condval, sd = modes$condsd),
    hat = unname(hatvalues(m)), cooks = unname(cooks.distance(m)), fitted = unname(fitted(m)),
    residuals = unname(residuals(m)), scaled = unname(residuals(m, type = "pearson", scaled = TRUE)),
    glance = glanced, r2_marginal = r2[1], r2_conditional = r2[2], icc_adjusted = icc[1], icc_unadjusted = icc[2],
    augment_names = names(as.data.frame(augment(m))), tidy = tidied, tests = tests)
  write(toJSON(out, digits = I(17), auto_unbox = TRUE, na = "null", dataframe = "rows"), paste0(name, ".json"))
}
form <- function(name, form) list(name = name, form = form)
all_none <- list(form("all", NULL), form("none", NA))

case("sleep", Reaction ~ Days + (Days | Subject), "sleepstudy.csv",
     data.frame(Days = c(0, 4.5, 12, 3, NA, 1), Subject = c("308", "372", "308", "999", "308", "335")),
     c(all_none, list(form("(1 | Subject)", ~ (1 | Subject)), form("(0 + Days | Subject)", ~ (0 + Days | Subject)))))
case("sleep_transformed", Reaction ~ poly(Days, 3) + scale(Days) + (scale(Days) | Subject), "sleepstudy.csv",
     data.frame(Days = c(1, 2, 8.5, -1), Subject = c("308", "309", "308", "352")), all_none)
case("politeness", frequency ~ attitude * gender + (1 | subject) + (1 | scenario), "politeness.csv",
     data.frame(attitude = c("pol", "inf", "inf", "pol"), gender = c("M", "F", "M", "F"),
                subject = c("F1", "F2", "M3", "F3"), scenario = c(1, 2, 7, 8)),
     c(all_none, list(form("subject", ~ (1 | subject)), form("scenario", ~ (1 | scenario)))), reml = FALSE)
case("politeness_sum", frequency ~ attitude + gender + (1 + attitude | subject), "politeness.csv",
     data.frame(attitude = c("pol", "inf"), gender = c("M", "F"), subject = c("F1", "F2")), all_none,
     options = c("--contrasts", "attitude=sum,gender=helmert"), prepare = function(data) {
       # For random effects, too, unlike lmer's argument `contrasts`.
       contrasts(data$attitude) <- contr.sum(2); contrasts(data$gender) <- contr.helmert(2); data
     })
case("pastes", strength ~ 1 + (1 | batch / cask), "pastes.csv",
     data.frame(batch = c("A", "A", "Z", "B"), cask = c("a", "c", "a", "q")),
     c(all_none, list(form("batch", ~ (1 | batch)))))
case("penicillin", diameter ~ 1 + (1 | plate) + (1 | sample), "penicillin.csv",
     data.frame(plate = c("a", "x", "q"), sample = c("A", "F", "B")), all_none)
