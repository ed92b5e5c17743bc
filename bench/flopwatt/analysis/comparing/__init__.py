"""Two sets of runs held against each other: sides, matched pairs, ratios, totals of suites, verdicts."""
