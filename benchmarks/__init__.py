"""`make bench`: figures of this machine, if possible as ratios to a reference in the same run. No test reads them."""
