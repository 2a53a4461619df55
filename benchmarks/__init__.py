"""`make bench`: figures of this machine, as ratios to a reference in the same run where there is one. No test reads them."""
