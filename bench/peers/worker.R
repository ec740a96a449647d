# A peer of the benchmark harness: one R process that waits for orders.
#
#   Rscript worker.R PEER TABLE FACTORS NULL FULL       a likelihood-ratio test
#   Rscript worker.R PEER TABLE FACTORS FORMULA         one model
#
# FACTORS are columns to read as factors, separated by commas ("-": none). PEER.R beside this file defines
#
#   packages          the packages that it attaches
#   prepare(...)      fits what is needed once; given the formulas and the rows; returns a list with `statistic` (of a
#                     test) or `criterion` (of one model), to see that both programs do the same
#   perform(n, seed)  n replicates (or fits); returns how many there were, or a list with `count` and what else is to be
#                     said of them
#
# Prints a line of JSON about itself; then for each line "N SEED" of standard input the count, wall-clock and CPU
# seconds.
options(mc.cores = 1, warn = -1)
arguments <- commandArgs(TRUE)
here <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1]))
source(file.path(here, paste0(arguments[1], ".R")))
for (package in packages) suppressPackageStartupMessages(library(package, character.only = TRUE))

say <- function(fields) {
  text <- vapply(fields, function(x) if (is.character(x)) encodeString(x, quote = "\"") else format(x, digits = 15), "")
  cat("{", paste0("\"", names(fields), "\": ", text, collapse = ", "), "}\n", sep = "")
  flush(stdout())
}

rows <- read.csv(arguments[2], stringsAsFactors = TRUE)
if (arguments[3] != "-") for (name in strsplit(arguments[3], ",")[[1]]) rows[[name]] <- factor(rows[[name]])
formulas <- lapply(arguments[-(1:3)], as.formula)
# Refitting to a simulated response needs a row of the data for each: rows with a missing value go before.
rows <- droplevels(na.omit(rows[Reduce(union, lapply(formulas, all.vars))]))

versions <- vapply(packages, function(p) format(packageVersion(p)), "")
time <- system.time(found <- suppressWarnings(suppressMessages(do.call(prepare, c(formulas, list(rows))))))
say(c(list(R = as.character(getRversion()), BLAS = basename(dirname(extSoftVersion()[["BLAS"]]))), as.list(versions),
      found, list(rows = nrow(rows), prepare_seconds = time[["elapsed"]])))

input <- file("stdin", "r")
while (length(line <- readLines(input, n = 1))) {
  order <- as.numeric(strsplit(line, " ")[[1]])
  time <- system.time(count <- suppressWarnings(suppressMessages(perform(order[1], order[2]))))
  say(c(if (is.list(count)) count else list(count = count),
        list(seed = order[2], seconds = time[["elapsed"]], cpu_seconds = time[["user.self"]] + time[["sys.self"]])))
}
