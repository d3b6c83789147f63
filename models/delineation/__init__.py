"""From a RECIST cross to a mask on the key slice, from there to a 3-D mask, and to RECIST again."""

from models.delineation.delineate import Delineation, Delineator, delineate

__all__ = ["Delineation", "Delineator", "delineate"]
