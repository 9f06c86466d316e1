"""How good a masking is: figures with intervals, beside trivial baselines."""
