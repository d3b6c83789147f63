"""The core: words, geometry, rules, pseudonyms and the mining story. Pure: numpy and the standard library."""
