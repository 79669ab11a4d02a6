"""A run as one page, ``report.html``, which needs no network: curves, errors, mistakes, what the net looks at.

`pages` puts a page together and writes it, `elements` makes its HTML, `progress` shows what the log and the recipe say,
and `results` what the weights and the test images say.
"""

TEST_IMAGES, AMONG = 10_000, 2000  # test images that are looked at, training images among which the nearest are sought
