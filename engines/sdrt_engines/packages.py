"""Versions of installed packages."""

from __future__ import annotations


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of packages by their names on PyPI, without those that are not installed."""
    # imported late, as it is slow and rarely needed
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
