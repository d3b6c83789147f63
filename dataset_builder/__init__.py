"""Dataset folders and the ledger: everything that is written to disk for people and for later runs."""
