"""An archive on loopback and patients who never lived, for `mine demo` and for tests."""
