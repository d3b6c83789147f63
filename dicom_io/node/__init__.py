"""The node: a DICOM server that takes images in, has models look at whole studies and gives the results back.

`Node` is the whole; `NodeRules` says what is done for whom. Objects are durable before they are answered with
success, each step is in the journal, and a restart goes on where the last run stopped.
"""

from __future__ import annotations

from dicom_io.node.failures import JobFailed, Problem
from dicom_io.node.jobs import JobRequest, Runner
from dicom_io.node.limits import NodeLimits
from dicom_io.node.rules import NodeRules, read_rules
from dicom_io.node.server import Node, NodeSettings

__all__ = [
    "JobFailed",
    "JobRequest",
    "Node",
    "NodeLimits",
    "NodeRules",
    "NodeSettings",
    "Problem",
    "Runner",
    "read_rules",
]
