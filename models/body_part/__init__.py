"""Where in the body a slice lies: a learned score, a hand-made one, and series that look flipped."""
