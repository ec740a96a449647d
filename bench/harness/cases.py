"""The cases: what is measured, beside whom, and what it must reach."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    """A bound on one measured quantity, all on one core of an AVX-512 machine unless said."""

    quantity: str  # "rate" (per second), "ratio" (to `peer`), "seconds" (of one), "threads" (ratio of rates)
    value: float
    peer: str = ""

    @property
    def at_most(self):
        return self.quantity == "seconds"

    def reached(self, measured):
        return measured <= self.value if self.at_most else measured >= self.value


@dataclass(frozen=True)
class Case:
    """One job. `job` is that of bench_jobs (lrt: formulas are null and full; refit, fit, exact: one), "process" (the
    program from start to end), "threads" (an lrt by one and by two threads) or "study" (`batchlmm study` from start to end; the
    formulas are those that a peer fits to each response)."""

    name: str
    what: str
    job: str
    table: str
    formulas: tuple
    goals: tuple = ()
    peers: tuple = ()
    slow_peers: tuple = ()  # minutes each: only with --full
    factors: str = ""
    tier: str = "auto"
    threads: int = 1
    # Replicates of the two instruction counts whose difference is taken; none where a count would take minutes.
    counted: tuple = (500, 2500)
    check: bool = True  # replicates beside the certified reference
    checked: int = 20_000
    study: tuple = ()  # file in bench/studies, the grid that replaces its own
    peer_replicates: int = 0  # that a peer does in all rounds with --full; 0: as many as its time allows
    notes: tuple = field(default=())


POLITENESS = ("frequency ~ gender + (1|subject) + (1|scenario)",
              "frequency ~ attitude + gender + (1|subject) + (1|scenario)")
SLOPES = ("frequency ~ gender + (1 + attitude|subject) + (1 + attitude|scenario)",
          "frequency ~ attitude + gender + (1 + attitude|subject) + (1 + attitude|scenario)")
SLEEP = ("Reaction ~ Days + (Days|Subject)",)
MAXIMAL = ("time ~ 1 + (1 + condition|subject) + (1 + condition|item)",
           "time ~ 1 + condition + (1 + condition|subject) + (1 + condition|item)")
KB07 = ("time ~ S + P + (1|subj) + (1|item)", "time ~ S + P + L + (1|subj) + (1|item)")
KB07_MAXIMAL = ("time ~ S*P*L + (S*P*L|subj) + (S*P*L|item)",)
SUBJECT_ITEM_TERMS = ("(1 + c | subject) + (1 + c | item)", "(1 + c || subject) + (1 + c || item)",
                      "(1 + c || subject) + (1 | item)", "(1 | subject) + (1 + c || item)",
                      "(1 | subject) + (1 | item)")
MATUSCHEK = tuple(f"y ~ {fixed} + {terms}" for fixed in ("c", "1") for terms in SUBJECT_ITEM_TERMS)
POWER_CURVE = ("Reaction ~ Days + (Days | Subject)", "Reaction ~ 1 + (Days | Subject)")
INSTEVAL = ("y ~ service + (1|s) + (1|d) + (1|dept:service)",)

CASES = (
    Case("politeness", "politeness, LRT, as published (crossed 6 x 7, n = 83)", "lrt", "politeness", POLITENESS,
         (Goal("rate", 2e6), Goal("ratio", 40_000, "pbkrtest")), ("pbkrtest", "lme4_refit"), counted=(500, 2500)),
    Case("politeness-streaming", "the same by the streaming tier", "lrt", "politeness", POLITENESS,
         (Goal("rate", 1e6),), tier="streaming", counted=(500, 2500)),
    Case("politeness-complete", "politeness without missing cells, LRT", "lrt", "politeness_complete", POLITENESS,
         (Goal("rate", 4e6),), ("pbkrtest",)),
    Case("politeness-slopes", "politeness, correlated slopes in both factors (6 thetas), LRT", "lrt", "politeness",
         SLOPES, (Goal("rate", 150e3),), ("pbkrtest",), tier="streaming", counted=(50, 250)),
    Case("politeness-slopes-complete", "the same without missing cells", "lrt", "politeness_complete", SLOPES,
         (Goal("rate", 1e6),), counted=(50, 250)),
    Case("sleepstudy", "sleepstudy, Days + (Days|Subject), refits", "refit", "sleepstudy", SLEEP,
         (Goal("rate", 5e6),), ("lme4_bootmer", "lme4_refit", "nlme_simulate"), factors="Subject"),
    Case("sleepstudy-missing", "sleepstudy with 10 % of the rows missing, refits", "refit", "sleepstudy_missing", SLEEP,
         (Goal("rate", 1.5e6),), ("lme4_bootmer", "nlme_simulate"), factors="Subject"),
    Case("subjects-items", "50 subjects x 20 items x 2, maximal, LRT (2,000 rows)", "lrt", "subjects_items", MAXIMAL,
         (Goal("rate", 1.5e6),), ("lme4_refit",), counted=(20, 100)),
    Case("kb07", "kb07 (56 x 32, 1789 rows), crossed intercepts, LRT", "lrt", "kb07", KB07,
         (Goal("rate", 2e6),), ("lme4_refit",), counted=(40, 200)),
    Case("kb07-missing", "kb07 with 10 % of the rows missing, LRT", "lrt", "kb07_missing", KB07,
         (Goal("rate", 100e3),), ("lme4_refit",), counted=(40, 200)),
    Case("kb07-maximal", "kb07 maximal, 8 + 8 terms (72 thetas), refits", "refit", "kb07", KB07_MAXIMAL,
         (Goal("rate", 1000),), slow_peers=("lme4_refit",), counted=(), checked=2000),
    Case("kb07-maximal-missing", "kb07 maximal with 10 % of the rows missing, refits", "refit", "kb07_missing",
         KB07_MAXIMAL, (Goal("rate", 40),), slow_peers=("lme4_refit",), counted=(), checked=500),
    Case("insteval-fit", "InstEval, 3 crossed factors, one fit, 2 threads", "fit", "insteval", INSTEVAL,
         (Goal("seconds", 0.3),), ("lme4_fit",), threads=2, counted=(), check=False),
    Case("insteval-bootstrap", "InstEval bootstrap, refits, 2 threads", "refit", "insteval", INSTEVAL,
         (Goal("rate", 8),), slow_peers=("lme4_refit",), threads=2, counted=(), checked=200),
    Case("variance", "penicillin, test of the variance of samples, LRT", "lrt", "penicillin",
         ("diameter ~ 1 + (1|plate)", "diameter ~ 1 + (1|plate) + (1|sample)"), (), ("rlrsim", "lme4_refit"),
         notes=("exactRLRT holds the other component fixed at its estimate and simulates one ratio: less work than two "
                "fits",)),
    Case("exact", "dyestuff, exact RLRT of the variance of batches (balanced)", "exact", "dyestuff",
         ("Yield ~ 1 + (1|Batch)",), (Goal("rate", 5e6),), ("rlrsim",), counted=(16_000, 80_000), check=False),
    Case("exact-unbalanced", "sleepstudy with 10 % of the rows missing, exact RLRT of subjects' intercepts", "exact",
         "sleepstudy_missing", ("Reaction ~ Days + (1|Subject)",), (Goal("rate", 5e6),), ("rlrsim",), factors="Subject",
         counted=(16_000, 80_000), check=False),
    Case("study-matuschek", "Matuschek's study, 50 x 20 and slopes of 40: five models and their nulls", "study",
         "matuschek", MATUSCHEK, (Goal("ratio", 1000, "matuschek"),), ("matuschek",), counted=(), check=False,
         study=("matuschek2017.toml", """[grid]
"design.units" = [{ subject = 50, item = 20 }]
"truth.beta.c" = [25]
"truth.random.subject.sd.c, truth.random.item.sd.c" = [40]
"""), peer_replicates=100),
    Case("study-power-curve", "power curve along subjects of a balanced random-slope design", "study", "sleepstudy",
         POWER_CURVE, (Goal("ratio", 5000, "simr"),), ("simr",), factors="Subject", counted=(), check=False,
         study=("examples/table.toml", """[grid]
"design.extend.to" = [6, 12, 18, 24]
"""), peer_replicates=400),
    Case("threads", "politeness, LRT, two threads on two cores", "threads", "politeness", POLITENESS,
         (Goal("threads", 1.9),), threads=2, counted=(), check=False),
    Case("first-fit", "first result of `fit` on politeness, whole process", "process", "politeness",
         ("frequency ~ attitude + gender + (1|subject) + (1|scenario)",), (Goal("seconds", 0.030),), ("lme4_process",),
         counted=(), check=False),
)


def find(names):
    """The cases of these names, all where there are none; KeyError with the name that is not one."""
    by_name = {case.name: case for case in CASES}
    return [by_name[name] for name in names] if names else list(CASES)
