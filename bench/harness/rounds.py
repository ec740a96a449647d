"""Rounds in turns: ours and each peer after another, in one run, and the ratio with its spread.

Whatever else the machine does falls on all of them. Rates of different days or machines are not compared; ratios are.
"""

import statistics


def spread(values):
    """Smallest, median and largest."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def rate(answer, clock="seconds"):
    """Replicates (or fits) per second of one answer."""
    return answer["count"] / answer[clock] if answer[clock] > 0 else float("inf")


def count_for(seconds, per_second, least=1, most=10 ** 9):
    """How many replicates take about `seconds`, rounded down to two digits."""
    count = max(least, min(most, seconds * per_second))
    digit = 10 ** max(0, len(str(int(count))) - 2)
    return max(least, int(count) // digit * digit)


def calibrate(order, first, seconds, most=10 ** 9):
    """The first answer that took long enough (an eighth of `seconds`) to tell a speed; orders grow until one did.

    @param order  order(count): the answer
    """
    count = first
    while True:
        answer = order(count)
        if answer["seconds"] >= seconds / 8 or count >= most:
            return answer
        count = min(most, max(2 * count, count_for(seconds / 4, rate(answer), 1, 20 * count)))


def alternate(rounds, turns, say=lambda *_: None):
    """Runs every turn of each round, one after another.

    @param turns  name -> turn(round): the answer, with "count", "seconds", "cpu_seconds"
    @return one dictionary name -> answer a round
    """
    results = []
    for number in range(1, rounds + 1):
        answers = {}
        for name, turn in turns.items():
            answers[name] = turn(number)
        results.append(answers)
        say(number, answers)
    return results


def ratios(results, ours, theirs):
    """Of the rates of `ours` and `theirs`, round by round: spread by wall-clock and by CPU time.

    CPU seconds do not grow when something else has the core for a while.
    """
    pairs = [(one[ours], one[theirs]) for one in results if ours in one and theirs in one]
    return {key: spread([rate(a, clock) / rate(b, clock) for a, b in pairs])
            for key, clock in (("wall", "seconds"), ("cpu", "cpu_seconds"))}


def rates(results, name):
    """Spread of the rates of one program over the rounds."""
    return spread([rate(one[name]) for one in results if name in one])
