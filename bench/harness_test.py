"""Tests of the harness's own logic; with BATCHLMM_BENCH_JOBS (ctest sets it) also of bench_jobs."""

import contextlib
import copy
import csv
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
# pylint: disable=wrong-import-position
import bench
from harness import cases, compare, curves, designs, gpu, instructions, measure, results, rounds, studies, svg
from harness.processes import BenchmarkError, Worker, run
from studies import compare as known

JOBS = os.environ.get("BATCHLMM_BENCH_JOBS")


def answer(count, seconds, cpu_seconds=None):
    return {"count": count, "seconds": seconds, "cpu_seconds": seconds if cpu_seconds is None else cpu_seconds}


def sample_result():
    """A result with everything that the table and the plot show."""
    spread = {"min": 9000.0, "median": 10000.0, "max": 12000.0}
    case = {
        "what": "a < b & c",
        "goals": [{"quantity": "rate", "value": 2e6, "peer": "", "measured": 1e6, "reached": False},
                  {"quantity": "ratio", "value": 40000, "peer": "pbkrtest", "measured": 10000.0, "reached": False}],
        "skipped": {"nlme_simulate": "not installed"}, "failures": {"lme4_refit": "it ended"},
        "rates": {"batchlmm": {"min": 9e5, "median": 1e6, "max": 2e6},
                  "pbkrtest": {"min": 90.0, "median": 100.0, "max": 110.0}},
        "ratios": {"pbkrtest": {"wall": spread, "cpu": spread}}, "facts": {"tier": "streaming"},
        "accuracy": {"checked": 20000, "off": 0, "wrong_optimum": 0}, "memory": {"peak_kb": 34000},
        "instructions": {"per_replicate": 60000.0, "kernels": "avx2", "counts": {"500": 1, "2500": 2}},
    }
    points = [{"x": 10 ** i, "rate": 1e5 * i, "seconds": 1.0, "count": 10, "peak_kb": 1000, "tier": "streaming"}
              for i in range(2, 7)]
    return {
        "format": results.FORMAT, "date": "2026-01-01T00:00:00+00:00", "machine": {"processor": "P <&>", "cores": 2},
        "build": {"commit": "0123456789abcdef", "changed_files": []}, "ceiling": None,
        "cases": {"one & <two>": case, "broken": {"error": "no <answer>"}},
        "curves": {"curve-replicates": {"what": "rate by replicates", "x": "replicates",
                                        "series": {"a & b": points, "second": points[:2]}},
                   "curve-rows": {"error": "failed"}},
    }


class Rounds(unittest.TestCase):
    def test_ratio_is_of_rates_round_by_round_with_its_spread(self):
        found = [{"ours": answer(1000, 1.0, 0.5), "peer": answer(10, 1.0, 1.0)},
                 {"ours": answer(1000, 2.0, 0.5), "peer": answer(10, 1.0, 1.0)},
                 {"ours": answer(1000, 1.0, 0.5), "peer": answer(10, 4.0, 1.0)}]

        ratio = rounds.ratios(found, "ours", "peer")

        self.assertEqual(ratio["wall"], {"min": 50, "median": 100, "max": 400})
        self.assertEqual(ratio["cpu"], {"min": 200, "median": 200, "max": 200})
        self.assertEqual(rounds.rates(found, "peer"), {"min": 2.5, "median": 10, "max": 10})

    def test_rounds_of_a_peer_that_left_do_not_count(self):
        found = [{"ours": answer(10, 1.0), "peer": answer(1, 1.0)}, {"ours": answer(10, 0.1)}]

        self.assertEqual(rounds.ratios(found, "ours", "peer")["wall"]["max"], 10)

    def test_turns_alternate(self):
        order = []
        turns = {name: lambda number, n=name: order.append((number, n)) or answer(1, 1.0) for name in "ab"}

        rounds.alternate(2, turns)

        self.assertEqual(order, [(1, "a"), (1, "b"), (2, "a"), (2, "b")])

    def test_calibration_grows_until_an_order_is_long_enough(self):
        asked = []

        def order(count):
            asked.append(count)
            return answer(count, count / 50_000)

        found = rounds.calibrate(order, 8, 1.0)

        self.assertGreaterEqual(found["seconds"], 1 / 8)
        self.assertLess(found["seconds"], 1)
        self.assertEqual(asked, sorted(asked))
        self.assertEqual(rounds.count_for(1.0, 123_456), 120_000)
        self.assertEqual(rounds.count_for(1.0, 0.2), 1)

    def test_a_peer_that_fails_leaves_and_the_rest_goes_on(self):
        def failing(number):
            if number == 2:
                raise BenchmarkError("it ended")
            return answer(1, 1.0)

        result = {"failures": {}}
        with contextlib.redirect_stdout(io.StringIO()):
            found = measure._alternate_safely(3, {"batchlmm": lambda _: answer(10, 1.0), "peer": failing}, result)

        self.assertEqual([sorted(one) for one in found], [["batchlmm", "peer"], ["batchlmm"], ["batchlmm"]])
        self.assertEqual(result["failures"], {"peer": "it ended"})

    def test_a_slow_peer_has_fewer_rounds(self):
        effort = measure.QUICK
        worker = mock.Mock()
        worker.order.return_value = answer(1, 5.0)
        calibration = answer(1, 99.0)

        short = measure._peer_turn(effort, worker, answer(1, 5.0), 5.0)
        long = measure._peer_turn(effort, worker, calibration, 99.0)

        self.assertEqual([short(n) is None for n in (1, 2, 3)], [False, False, True])
        self.assertIs(long(1), calibration)
        self.assertIsNone(long(2))


class Compare(unittest.TestCase):
    def test_flags_what_takes_more_instructions(self):
        old = sample_result()
        new = copy.deepcopy(old)
        new["cases"]["one & <two>"]["instructions"]["per_replicate"] *= 1.03

        lines, slower = compare.compare(old, new)

        self.assertEqual(slower, ["one & <two>"])
        self.assertIn("+3.0 %: SLOWER", lines[0])
        self.assertEqual(compare.compare(new, old)[1], [])
        self.assertEqual(compare.compare(old, old)[1], [])

    def test_counts_of_other_kernels_or_replicates_are_not_compared(self):
        old = sample_result()
        new = copy.deepcopy(old)
        new["cases"]["one & <two>"]["instructions"].update(per_replicate=1e9, counts={"10": 1, "20": 2})

        lines, slower = compare.compare(old, new)

        self.assertEqual(slower, [])
        self.assertIn("not compared", lines[0])

    def test_the_command_says_it_by_its_exit_code(self):
        with tempfile.TemporaryDirectory() as folder:
            old, new = pathlib.Path(folder, "old.json"), pathlib.Path(folder, "new.json")
            result = sample_result()
            results.write(old, result)
            result["cases"]["one & <two>"]["instructions"]["per_replicate"] *= 1.03
            results.write(new, result)

            codes = []
            for before, after in ((old, new), (new, old), (old, old)):
                with mock.patch.object(sys, "argv", ["bench", "--compare", str(before), "--with", str(after)]):
                    with contextlib.redirect_stdout(io.StringIO()):
                        codes.append(bench.main())

        self.assertEqual(codes, [1, 0, 0])

    def test_another_file_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "other.json")
            path.write_text('{"benchmark": "x"}', encoding="utf-8")

            with self.assertRaisesRegex(ValueError, "expected a result of ./run bench"):
                results.read(path)


class Output(unittest.TestCase):
    def test_the_plot_is_well_formed_and_has_every_point_and_bar(self):
        root = ElementTree.fromstring(svg.plot(sample_result()))

        space = "{http://www.w3.org/2000/svg}"
        self.assertEqual(root.tag, f"{space}svg")
        lines = root.findall(f".//{space}polyline")
        self.assertEqual([len(line.get("points").split()) for line in lines], [5, 2])
        self.assertEqual(len(root.findall(f".//{space}rect")), 1)
        texts = [text.text for text in root.findall(f".//{space}text")]
        self.assertIn("one & <two> · pbkrtest", texts)
        self.assertIn("10,000", texts)
        # Inside the picture.
        for line in lines:
            for point in line.get("points").split():
                x, y = map(float, point.split(","))
                self.assertTrue(0 < x < float(root.get("width")) and 0 < y < float(root.get("height")))

    def test_the_plot_of_nothing_is_well_formed(self):
        result = sample_result()
        result["cases"], result["curves"] = {}, {}

        ElementTree.fromstring(svg.plot(result))

    def test_a_logarithmic_axis_rises_from_end_to_end(self):
        axis = svg.Log([3, 4000], 100, 200)

        self.assertEqual([axis.at(1), axis.at(10 ** 4)], [100, 200])
        self.assertAlmostEqual(axis.at(100), 150)
        self.assertEqual(list(axis.ticks()), [0, 1, 2, 3, 4])

    def test_the_table_shows_goals_failures_and_what_was_skipped(self):
        text = results.text(sample_result())

        self.assertIn("≥ 2 M/s: 1 M/s MISSED", text)
        self.assertIn("≥ 40,000 x pbkrtest: 10,000 x MISSED", text)
        self.assertIn("9,000 – 10,000 – 12,000", text)
        for peer, state in (("nlme_simulate", "SKIPPED"), ("lme4_refit", "FAILED")):
            self.assertTrue(any(peer in line and state in line for line in text.splitlines()))
        self.assertEqual(results.failures(sample_result()),
                         ["one & <two>: lme4_refit: it ended", "broken: no <answer>", "curve-rows: failed"])

    def test_a_broken_contract_is_a_failure(self):
        result = sample_result()
        result["cases"]["one & <two>"]["accuracy"].update(off=1)

        self.assertTrue(any("1 of 20000 off" in line for line in results.failures(result)))

    def test_numbers(self):
        self.assertEqual([results.number(v) for v in (0.5, 12.34, 999.6, 1234, 2.5e6, 6.4e10, None)],
                         ["0.5", "12.3", "1 k", "1.23 k", "2.5 M", "64 G", "-"])

    def test_goals_are_judged_by_the_median(self):
        case = cases.Case("x", "", "lrt", "t", (), (cases.Goal("rate", 100), cases.Goal("ratio", 5, "p"),
                                                    cases.Goal("ratio", 5, "absent"), cases.Goal("seconds", 0.3)))
        result = {"goals": [{} for _ in case.goals], "rates": {"batchlmm": {"median": 100}},
                  "ratios": {"p": {"wall": {"median": 4.9}}}, "seconds": {"median": 0.2}}

        measure.judge(case, result)

        self.assertEqual([goal["reached"] for goal in result["goals"]], [True, False, None, True])

    def test_every_case_and_curve_has_its_own_name_and_a_table(self):
        names = bench.every_name()
        self.assertEqual(len(names), len(set(names)))
        for case in cases.CASES:
            self.assertTrue(case.table in designs.FILES or case.table in designs.MAKERS, case.name)
            for peer in case.peers + case.slow_peers:
                self.assertIn(peer, measure.PEER_PACKAGES)
                if peer != "lme4_process":
                    self.assertTrue((measure.PEERS / f"{peer}.R").exists(), peer)
        self.assertTrue(all(name.startswith("curve-") for name in curves.CURVES))


def rejection(test, value, n=1000, **cell):
    return {"estimand": "rejection_rate", "subject": test, "value": value, "mcse": (value * (1 - value) / n) ** 0.5,
            "n": n, **cell}


class Studies(unittest.TestCase):
    def test_a_case_has_its_grid_replicates_and_seed_and_paths_that_hold_anywhere(self):
        for name in ("study-matuschek", "study-power-curve"):
            case = cases.find([name])[0]

            text = studies.text(case, 123, 7)

            self.assertEqual(text.count("[grid]"), 1)
            self.assertTrue(text.endswith(case.study[1]))
            self.assertIn("\nreplicates = 123", text)
            self.assertIn("\nseed = 7", text)
            for path in [line.split('data = "')[1].split('"')[0] for line in text.splitlines() if 'data = "' in line]:
                self.assertTrue(pathlib.Path(path).exists(), path)

    def test_rates_of_a_peer_that_are_far_apart_are_another_study(self):
        ours = [rejection("lrt", 0.5, 100_000), rejection("lrt", 0.7, 100_000), rejection("wald", 0.1)]
        near = [{"peer": {"count": 100, "rejected_lrt": 63}}, {"peer": {"count": 100, "rejected_lrt": 60}}, {}]
        far = [{"peer": {"count": 100, "rejected_lrt": 85}}]

        found = studies.same_rates(ours, near, "peer")

        self.assertEqual(set(found), {"lrt"})
        self.assertAlmostEqual(found["lrt"]["ours"], 0.6)
        self.assertAlmostEqual(found["lrt"]["peer"], 0.615)
        with self.assertRaises(BenchmarkError):
            studies.same_rates(ours, far, "peer")


class KnownStudies(unittest.TestCase):
    CELLS = [rejection("lrt", 0.06, 10_000, **{"design.units.item": 12.0, "where": "here"}),
             rejection("lrt", 0.05, 10_000, **{"design.units.item": 24.0, "where": "here"})]

    def published(self, item, value, **more):
        return {"cell": {"design.units.item": item}, "test": "lrt", "value": value, "digits": 3, "replicates": 10_000,
                **more}

    def test_the_limit_has_the_errors_of_both_and_the_rounding(self):
        both = known.limit(0.5, 0.005, {"digits": 2, "replicates": 10_000})
        exact = known.limit(0.5, 0.005, {"digits": 6})

        self.assertAlmostEqual(both, 3 * (2 * 0.005**2) ** 0.5 + 0.005)
        self.assertAlmostEqual(exact, 0.015, places=5)

    def test_a_rate_agrees_within_its_limit(self):
        near, far = (known.compare_rate(self.CELLS, self.published(12, value)) for value in (0.066, 0.075))

        self.assertTrue(near["agrees"])
        self.assertFalse(far["agrees"])
        self.assertAlmostEqual(far["difference"], -0.015)

    def test_a_cell_that_is_not_there_or_not_alone_is_a_fault(self):
        for cell in ({"design.units.item": 13}, {"no.key": 1}, {"where": "here"}):
            with self.assertRaises(ValueError):
                known.find(self.CELLS, cell, "lrt")

    def test_orderings_agree_or_not_or_are_open(self):
        many, few = ({"cell": {"design.units.item": item}, "test": "lrt"} for item in (24, 12))

        verdicts = [known.compare_ordering(self.CELLS, {"lower": lower, "higher": higher})["agrees"]
                    for lower, higher in ((many, few), ({"value": 0.03}, few), (few, {"value": 0.05}),
                                          ({**many, "distance": 0.05}, {**few, "distance": 0.09}))]

        self.assertEqual(verdicts, [True, True, False, True])
        self.assertIsNone(known.compare_ordering(self.CELLS, {"lower": {"value": 0.06}, "higher": few})["agrees"])

    def test_published_files_name_their_study_its_tests_and_a_source_of_every_number(self):
        files = sorted((known.HERE / "published").glob("*.json"))
        self.assertGreaterEqual(len(files), 8)
        for file in files:
            published = json.loads(file.read_text(encoding="utf-8"))
            text = (known.HERE / published["study"]).read_text(encoding="utf-8")
            self.assertEqual(published["study"], f"{file.stem}.toml")
            ends = [one[key] for one in published.get("orderings", []) for key in ("lower", "higher")]
            for one in published.get("rates", []) + published.get("orderings", []):
                self.assertIn(one["source"], published["sources"], file.name)
            for one in published.get("rates", []) + [end for end in ends if "test" in end]:
                self.assertIn(f"[tests.{one['test']}]", text, file.name)

    def test_the_page_shows_every_number_and_what_failed(self):
        result = {"date": "2026-01-01", "command": "c", "machine": {"processor": "P", "cores": 2},
                  "build": {"commit": None},
                  "studies": [{"study": "a.toml", "name": "A study", "replicates": 1000, "cells": 2, "core_seconds": 1.5,
                               "sources": {"paper": {"citation": "Somebody (2000)"}}, "notes": ["a note"],
                               "rates": [known.compare_rate(self.CELLS, self.published(12, 0.066, source="paper"))],
                               "orderings": []},
                              {"study": "b.toml", "error": "it broke"}]}

        page = known.markdown(result)

        for part in ("A study", "Somebody (2000)", "a note", "| 0.066 | 0.0600 | -0.0060 |", "1 of 1",
                     "failed: it broke"):
            self.assertIn(part, page)


class Designs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, value in (("MADE", pathlib.Path(folder.name)), ("SHARED", pathlib.Path(folder.name, "none"))):
            patch = mock.patch.object(designs, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    @staticmethod
    def rows(path):
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def test_made_tables_have_the_published_sizes(self):
        for name, count in (("politeness_complete", 84), ("sleepstudy_missing", 162), ("subjects_items", 2000),
                            ("kb07", 1789), ("kb07_missing", 1610)):
            rows = self.rows(designs.table(name))
            self.assertEqual(len(rows), count, name)
            self.assertFalse(any(value in ("", "NA") for row in rows for value in row.values()), name)

    def test_simulated_kb07_is_crossed_and_balanced(self):
        rows = self.rows(designs.kb07())

        self.assertEqual(len({r["subj"] for r in rows}), 56)
        self.assertEqual(len({r["item"] for r in rows}), 32)
        cells = [(r["S"], r["P"], r["L"]) for r in rows]
        for cell in set(cells):
            self.assertTrue(221 <= cells.count(cell) <= 224)

    def test_simulated_insteval_has_the_published_levels(self):
        rows = self.rows(designs.insteval())

        self.assertEqual(len(rows), 73_421)
        self.assertEqual(len({r["s"] for r in rows}), 2972)
        self.assertEqual(len({r["d"] for r in rows}), 1128)
        self.assertEqual(len({(r["dept"], r["service"]) for r in rows}), 28)

    def test_tables_are_the_same_every_time(self):
        names = ("subjects_items", "kb07_missing")
        first = {name: designs.facts(name, designs.table(name))["sha256"] for name in names}
        second = {name: designs.facts(name, designs.table(name))["sha256"] for name in first}

        self.assertEqual(first, second)


class Processes(unittest.TestCase):
    def test_a_worker_that_ends_says_why(self):
        code = "import sys; print('{}', flush=True); input(); print('what went wrong', file=sys.stderr); sys.exit(3)"
        with Worker("peer", [sys.executable, "-c", code]) as worker:
            with self.assertRaisesRegex(BenchmarkError, "peer: it ended, exit code 3: what went wrong"):
                worker.order("1")

    def test_a_worker_that_hangs_is_left(self):
        code = "import time; print('{}', flush=True); time.sleep(60)"
        with Worker("peer", [sys.executable, "-c", code]) as worker:
            with self.assertRaisesRegex(BenchmarkError, "no answer within 0 s"):
                worker.order("1", timeout=0.1)

    def test_a_program_that_fails_says_why(self):
        with self.assertRaisesRegex(BenchmarkError, "found 2: .*: no table"):
            run([sys.executable, "-c", "import sys; print('no table', file=sys.stderr); sys.exit(2)"])

    def test_counts_are_read_in_the_order_of_the_orders(self):
        with tempfile.TemporaryDirectory() as folder:
            for number, total, trigger in ((2, 500, "order"), (10, 900, "order"), (1, 100, "order"), (3, 7, "end")):
                pathlib.Path(folder, f"out.{number}").write_text(
                    f"desc: Trigger: Client Request: {trigger}\nsummary: 0\n\ntotals: {total}\n", encoding="utf-8")

            self.assertEqual(instructions._totals(folder), [100, 500, 900])


@unittest.skipUnless(JOBS, "BATCHLMM_BENCH_JOBS does not say where bench_jobs is")
class Jobs(unittest.TestCase):
    def worker(self, *words):
        worker = Worker("bench_jobs", [JOBS, *map(str, words)])
        self.addCleanup(worker.close)
        return worker

    def test_a_test_counts_every_replicate_and_does_not_depend_on_threads(self):
        ours = self.worker("lrt", *cases.POLITENESS, designs.table("politeness"))

        one, two = ours.order("400 0 1"), ours.order("400 0 2")

        self.assertEqual(ours.facts["model"]["rows"], 83)
        self.assertAlmostEqual(ours.facts["statistic"], 11.6178, places=3)
        self.assertEqual(sum(one["status"].values()), 400)
        self.assertEqual((one["used"], one["mean_statistic"]), (two["used"], two["mean_statistic"]))
        self.assertGreater(one["memory"]["peak_kb"], 1000)
        self.assertGreater(one["evaluations_per_replicate"], 2)

    def test_the_reference_finds_nothing_better_than_the_streaming_tier(self):
        ours = self.worker("lrt", *cases.POLITENESS, designs.table("politeness"), "--tier", "streaming")

        found = ours.order("check 300 5")

        self.assertEqual((found["checked"], found["off"], found["wrong_optimum"], found["unused"]), (300, 0, 0, 0))
        self.assertLess(found["largest_excess"], 1e-8)

    def test_refits_and_fits(self):
        refits = self.worker("refit", *cases.SLEEP, designs.table("sleepstudy"), "--factor", "Subject")
        fits = self.worker("fit", *cases.SLEEP, designs.table("sleepstudy"), "--factor", "Subject")

        self.assertEqual(sum(refits.order("200")["status"].values()), 200)
        one = fits.order("2 0 1")
        self.assertAlmostEqual(one["criterion"], 1751.9393, places=3)
        self.assertTrue(one["converged"])

    def test_a_wrong_order_or_tier_is_one_line(self):
        ours = self.worker("refit", *cases.SLEEP, designs.table("sleepstudy"), "--factor", "Subject")
        with self.assertRaisesRegex(BenchmarkError, "expected an order COUNT"):
            ours.order("many")
        with self.assertRaisesRegex(BenchmarkError, "--tier: expected auto"):
            Worker("bench_jobs", [JOBS, "lrt", *cases.POLITENESS, str(designs.table("politeness")), "--tier", "fast"])

    def test_the_ceiling_is_that_of_the_widest_instruction_set_or_near(self):
        facts = json.loads(run([JOBS, "ceiling"]).output)

        rates = {one["isa"]: one["multiply_adds_per_second"] for one in facts["isas"]}
        self.assertIn(facts["chosen"], rates)
        self.assertTrue(all(rate > 1e7 for rate in rates.values()))


class Gpu(unittest.TestCase):
    def test_occupancy_is_what_registers_and_shared_memory_leave(self):
        self.assertEqual(gpu.occupancy(168), 12 / 64)
        self.assertEqual(gpu.occupancy(255), 8 / 64)
        self.assertEqual(gpu.occupancy(32), 1.0)
        self.assertEqual(gpu.occupancy(32, shared=100 * 1024), 8 / 64)

    def test_resource_usage_is_read_by_architecture_and_kernel(self):
        text = """
Fatbin elf code:
================
arch = sm_80
Resource usage:
 Common:
  GLOBAL:0
 Function _Z10fit_kernelv:
  REG:168 STACK:3952 SHARED:0 LOCAL:0 CONSTANT[0]:1200 TEXTURE:0 SURFACE:0 SAMPLER:0
arch = sm_90
 Function _Z11draw_kernelv:
  REG:64 STACK:192 SHARED:16 LOCAL:8 CONSTANT[0]:1200 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
        fit, draw = gpu.resource_usage(text)
        self.assertEqual((fit["architecture"], fit["kernel"], fit["registers"], fit["stack"]),
                         ("sm_80", "_Z10fit_kernelv", 168, 3952))
        self.assertEqual((draw["architecture"], draw["shared"], draw["local"], draw["occupancy"]), ("sm_90", 16, 8, 0.5))

    def test_gtest_reports_count_runs_failures_and_skips(self):
        report = {"testsuites": [{"name": "Cuda", "testsuite": [
            {"name": "A", "result": "COMPLETED"}, {"name": "B", "result": "SKIPPED"},
            {"name": "C", "result": "COMPLETED", "failures": [{"failure": "no"}]}]}]}
        self.assertEqual(gpu.gtest_counts(report), (3, 1, 1, ["Cuda.C"]))

    def test_reasons_of_skipped_tests_are_told_once(self):
        text = "[ RUN      ] A\n/x/a.cpp:3: Skipped\nno libcublas\n\n[  SKIPPED ] A\n/x/a.cpp:9: Skipped\nno libcublas\n"
        self.assertEqual(gpu.skip_reasons(text), ["no libcublas"])

    def test_sanitizer_summaries_give_their_errors(self):
        self.assertEqual(gpu.sanitizer_errors("========= ERROR SUMMARY: 3 errors"), 3)
        self.assertEqual(gpu.sanitizer_errors("========= RACECHECK SUMMARY: 0 hazards displayed (0 errors)"), 0)
        self.assertIsNone(gpu.sanitizer_errors("no device"))

    def test_profiles_are_read_by_launch(self):
        text = """==PROF== Connected
"ID","Process ID","Kernel Name","Metric Name","Metric Unit","Metric Value"
"0","7","fit_kernel","gpu__time_duration.sum","ns","1,234,567"
"0","7","fit_kernel","launch__registers_per_thread","register/thread","168"
"1","7","draw_kernel","gpu__time_duration.sum","ns","99"
"1","7","draw_kernel","something__else.sum","","1"
"""
        self.assertEqual(gpu.profile(text), [{"kernel": "fit_kernel", "nanoseconds": 1234567.0, "registers": 168.0},
                                             {"kernel": "draw_kernel", "nanoseconds": 99.0}])
        with self.assertRaisesRegex(gpu.Unable, "ERR_NVGPUCTRPERM"):
            gpu.profile("==ERROR== ERR_NVGPUCTRPERM\n")

    def test_answers_that_differ_are_told(self):
        one = {"count": 9, "used": 9, "status": {"converged": 9}, "extreme": 2, "mean_statistic": 1.0}
        self.assertEqual(gpu.differences(one, dict(one, seconds=3)), [])
        other = dict(one, extreme=3, mean_statistic=1.0 + 1e-6)
        self.assertEqual(len(gpu.differences(one, other)), 2)
        self.assertEqual(gpu.differences({"count": 1}, {"count": 1}), [])

    def test_only_libraries_that_are_not_the_systems_travel(self):
        ldd = """\tlinux-vdso.so.1 (0x0)
\tlibfmt.so.9 => /usr/lib/libfmt.so.9 (0x1)
\tlibc.so.6 => /lib/libc.so.6 (0x2)
\tlibcublas.so.13 => /usr/lib/libcublas.so.13 (0x3)
"""
        self.assertEqual(list(gpu.shared_objects(ldd)), ["libfmt.so.9", "libcublas.so.13"])
        with self.assertRaisesRegex(BenchmarkError, "libarrow"):
            gpu.shared_objects("\tlibarrow.so.2600 => not found\n")

    def test_time_is_shared_and_runs_out(self):
        now = [0.0]
        clock = gpu.Clock(100, lambda: now[0])
        self.assertEqual(clock.limit(30), 30)
        now[0] = 90.0
        self.assertEqual(clock.limit(30), 10)
        now[0] = 99.5
        with self.assertRaises(gpu.Unable):
            clock.limit(30)

    def test_a_process_that_takes_too_long_is_ended_with_its_children(self):
        code, out, _ = gpu.call(["sh", "-c", "echo begun; sleep 60 & wait"], 1)
        self.assertEqual((code, out), (None, "begun\n"))

    def results(self):
        part = {"seconds": 1.0}
        return {
            "date": "2026-01-01T00:00:00+00:00", "machine": {"cores": 16, "processor": "P"},
            "device": {"driver": "13.0", "devices": [
                {"name": "Old", "compute_capability": "6.1", "usable": False},
                {"name": "Card", "compute_capability": "9.0", "usable": True}]},
            "build": {"commit": "0123456789abcdef"},
            "resources": [{"architecture": "sm_90", "kernel": "_ZN8batchlmm10fit_kernelE", "registers": 168, "stack": 0,
                           "shared": 0, "local": 0, "occupancy": 12 / 64}],
            "tests": dict(part, results=[{"test": "cuda_test", "exit_code": 0, "run": 5, "failed": 0, "skipped": 0,
                                          "failures": []}]),
            "sanitizer": dict(part, results=[{"tool": "memcheck", "case": "politeness", "tier": "streaming", "errors": 0},
                                             {"tool": "racecheck", "case": "kb07", "tier": "shared",
                                              "unable": "no time was left"}]),
            "ceiling": dict(part, results={"multiply_adds_per_second": 1.5e13, "copy_bytes_per_second": 2e12,
                                           "write_bytes_per_second": 5e10, "read_bytes_per_second": 5e10,
                                           "start_seconds": 0.4}),
            "cases": dict(part, results={
                "politeness": {"goal": 2e8, "tier": {"cuda": "symmetry", "cpu": "symmetry"}, "rate": 1e8, "cpu_rate": 2e7,
                               "ratio": 5.0, "share_of_ceiling": 0.1, "compared": 1000, "differences": [],
                               "device_multiply_adds_per_second": 1e12, "cpu_thread_multiply_adds_per_second": 2e10},
                "insteval-bootstrap": {"goal": 500, "error": "it ended"}}),
            "billion": dict(part, results={"seconds": 9.0, "goal": 10.0, "p": 1e-3, "used": 10 ** 9, "tier": "symmetry"}),
            "profile": dict(part, unable="ncu was not found"),
        }

    def test_what_failed_is_listed(self):
        good = self.results()
        self.assertEqual(gpu.failures(good), [])
        bad = copy.deepcopy(good)
        bad["tests"]["results"][0].update(exit_code=1, failed=1, failures=["Cuda.A"])
        bad["sanitizer"]["results"][0]["errors"] = 2
        bad["cases"]["results"]["politeness"]["differences"] = ["used: cpu 1, cuda 2"]
        self.assertEqual(len(gpu.failures(bad)), 3)
        skipped = copy.deepcopy(good)
        skipped["tests"]["results"][0]["skipped"] = 5
        self.assertEqual(gpu.failures(skipped), ["tests: all were skipped, although there is a card"])
        self.assertIn("cuda_test: 5 of 5 skipped: no reason given", gpu.page(dict(skipped, failures=[])))
        self.assertIn("Card, compute capability 9.0", gpu.page(dict(good, failures=[])))
        self.assertEqual(gpu.failures(dict(good, tests={"seconds": 1.0, "unable": "no time was left"})),
                         ["tests: no time was left"])

    def test_the_page_has_every_part(self):
        results = dict(self.results(), failures=["cuda_test: Cuda.A"])
        text = gpu.page(results)
        for piece in ("| politeness | symmetry | 1e+08 | 2e+08 |", "10.0 %", "1000, the same", "it ended", "9.00 s",
                      "1.5e+13 multiply-adds/s", "**Failed:**", "cuda_test: Cuda.A", "ncu was not found", "| 168 | 0 | 19 % |",
                      "5 run, 0 failed, 0 skipped", "1 of 2 done, 0 with errors"):
            self.assertIn(piece, text)

    def test_cases_are_those_of_the_harness(self):
        names = [case.name for case in gpu.GPU_CASES] + [case for case, *_ in gpu.SANITIZED + gpu.PROFILED]
        self.assertTrue(cases.find(names))

    def test_without_a_pack_or_a_build_the_command_says_so(self):
        with tempfile.TemporaryDirectory() as empty, contextlib.redirect_stderr(io.StringIO()) as err:
            code = gpu.main(["run", "--pack", empty, "--build", empty, "--dry-run"])
        self.assertEqual(code, 2)
        self.assertIn("found neither", err.getvalue())

    @unittest.skipUnless(JOBS, "BATCHLMM_BENCH_JOBS is not set")
    def test_a_rate_is_measured_by_orders_that_grow(self):
        command = [JOBS, "lrt", *cases.POLITENESS, designs.DATA / "politeness.csv"]
        with Worker("jobs", command) as worker:
            rate, found = gpu.measured_rate(worker, 1, 0.2, 20)
            same = gpu.differences(worker.order("300 7 1"), worker.order("300 7 2"))
        self.assertGreater(rate, 1000)
        self.assertGreater(found["count"], 64)
        self.assertEqual(same, [])


if __name__ == "__main__":
    unittest.main()
