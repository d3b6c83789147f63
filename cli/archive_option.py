"""The archive that an option names, in place of the configured one."""

from __future__ import annotations

from dataclasses import replace

from cli.config import Settings


def with_archive(settings: Settings, address: str) -> Settings:
    """The settings with the archive that is named, if one is."""
    return replace(settings, archive=replace(settings.archive, address=address or settings.archive.address))
