# The politeness likelihood-ratio test by pbkrtest and lme4, told what to do by politeness_lrt.py.
#
#   Rscript pbmodcomp.R TABLE
#
# Prints a line of versions and one of the observed test; then, for each line "NSIM SEED" of standard input, times one
# PBmodcomp and prints: NSIM, wall-clock seconds, CPU seconds, p-value, replicates with a positive statistic.
options(mc.cores = 1, warn = -1)
suppressPackageStartupMessages({
  library(lme4)
  library(pbkrtest)
})

# The published table has an utterance without a frequency. PBmodcomp refits to simulated responses, whose number must
# be that of the rows of the data: it stops where lmer left one out by itself.
columns <- c("frequency", "attitude", "gender", "subject", "scenario")
rows <- na.omit(read.csv(commandArgs(TRUE)[1], stringsAsFactors = TRUE)[columns])
rows$scenario <- factor(rows$scenario)

null <- lmer(frequency ~ gender + (1 | subject) + (1 | scenario), rows, REML = FALSE)
full <- lmer(frequency ~ attitude + gender + (1 | subject) + (1 | scenario), rows, REML = FALSE)

say <- function(...) {
  cat(..., "\n", sep = "\t")
  flush(stdout())
}
say(R.version.string, packageVersion("lme4") |> format(), packageVersion("pbkrtest") |> format(),
    basename(dirname(extSoftVersion()[["BLAS"]])))
say(nrow(rows), format(2 * as.numeric(logLik(full) - logLik(null)), digits = 15))

input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1))) {
  order <- as.integer(strsplit(line, " ")[[1]])
  time <- system.time(suppressMessages(
    test <- PBmodcomp(full, null, nsim = order[1], seed = order[2])))
  say(order[1], time[["elapsed"]], time[["user.self"]] + time[["sys.self"]], test$test["PBtest", "p.value"],
      test$samples[["npos"]])
}
