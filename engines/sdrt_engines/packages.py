"""Which packages are installed."""

from __future__ import annotations


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of packages by their names on PyPI; one that is not installed is left out."""
    from importlib.metadata import PackageNotFoundError, version  # no import of sdrt needs it

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
