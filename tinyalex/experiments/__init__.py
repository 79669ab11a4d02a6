"""The paper's comparisons, run again at a size that the machine can bear, over several seeds.

`catalogue` says what is compared and what the paper found, `trial` trains one net and keeps what came of it, `effect`
is the arithmetic of the seeds, `compare` and `race` run a comparison, `report` writes it down.
"""
