"""How good: FROC and overlaps as the public codes count them, strata, intervals, masks, the page of an evaluation."""
