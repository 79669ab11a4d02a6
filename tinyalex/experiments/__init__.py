"""The paper's comparisons, repeated at a smaller size and with several seeds.

`catalogue` lists the comparisons and the paper's results; `trial` trains one net and saves its errors; `effect`
computes the mean difference between two nets and its confidence interval; `compare` and `race` run a comparison;
`experiment` runs one of them in its own folder; `report` formats, saves and draws the result; `rate` searches for a
learning rate; `footnote3` trains in the three stages of the paper's footnote 3.
"""
