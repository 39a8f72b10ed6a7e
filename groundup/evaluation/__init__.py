"""How good is it: scores with intervals, chance levels and baselines."""
