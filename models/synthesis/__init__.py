"""Lesions of real shapes and textures, blended into CT; pure numpy and scipy, no DICOM."""
