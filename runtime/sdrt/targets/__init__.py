"""Targets: which files of a component they run, how these are opened, and the choice of `auto`."""
