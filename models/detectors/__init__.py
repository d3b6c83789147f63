"""Detectors behind one port: lesionnet, the published Faster R-CNN, and a blob filter as the floor of both."""
