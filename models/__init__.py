"""Reads datasets by their schema, trains on them and returns Detections; the only room that knows torch."""
