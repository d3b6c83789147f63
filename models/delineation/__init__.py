"""From a RECIST cross to a mask on the key slice, from there to a 3-D mask, and to RECIST again."""
