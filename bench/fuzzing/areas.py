"""The areas of `make faults`, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fuzzing import (
    of_bundles,
    of_files,
    of_processes,
    of_programs,
    of_requests,
    of_stopping,
    of_targets,
    of_weights,
)
from fuzzing.bundles import Place
from fuzzing.outcomes import Case


@dataclass(frozen=True)
class Area:
    """A row of the table."""

    name: str
    cases: Callable[[Place], Iterator[Case]]


AREAS = (
    Area("files of the demo, prepared for the cpu", of_bundles.files_of_the_demo),
    Area("files of a small bundle, prepared for the cpu", of_bundles.files_of_the_toy),
    Area("JSON and text files", of_bundles.small_files),
    Area("files, openvino", of_bundles.files_on_openvino),
    Area("the manifest, with images", of_bundles.the_manifest_alone),
    Area("a lost manifest", of_bundles.a_lost_manifest),
    Area("another bundle's manifest", of_bundles.swapped_manifests),
    Area("files exchanged while open", of_bundles.opened_then_overwritten),
    Area("single bits of the manifest", of_bundles.bits_of_the_manifest),
    Area("every bit of its defaults", of_bundles.bits_of_the_defaults),
    Area("options of the command line", of_requests.options_of_the_command_line),
    Area("parameters in Python", of_requests.parameters_in_python),
    Area("keywords next to a Request", of_requests.requests_with_keywords),
    Area("Control(...)", of_requests.controls),
    Area("JSON in a PNG", of_requests.json_in_a_png),
    Area("texts in a PNG", of_requests.texts_in_a_png),
    Area("images", of_files.images),
    Area("outputs", of_files.outputs),
    Area("default names", of_files.default_names),
    Area("manifests made to harm", of_files.manifests),
    Area("configurations made to harm", of_files.configurations),
    Area("files made to harm", of_files.small_files_that_harm),
    Area("networks made to harm", of_files.networks),
    Area("files of weights", of_weights.weights),
    Area("environments", of_processes.environments),
    Area("closed and full streams", of_processes.streams),
    Area("folders and limits", of_processes.folders),
    Area("another user", of_processes.rights),
    Area("kills of run", of_processes.kills_of_run),
    Area("kills of build", of_processes.kills_of_build),
    Area("kills of export", of_processes.kills_of_exports),
    Area("signals to run", of_stopping.signals),
    Area("signals while a network runs", of_stopping.signals_in_networks),
    Area("early Ctrl-C", of_stopping.early_interrupts),
    Area("deadlines", of_stopping.deadlines),
    Area("exceptions of signal handlers", of_stopping.exceptions_of_handlers),
    Area("ends of programs", of_programs.ends_of_programs),
    Area("forks and pools", of_programs.forks_and_pools),
    Area("many processes", of_programs.many_processes),
    Area("broken packages", of_programs.broken_packages),
    Area("lost targets", of_targets.lost_targets),
    Area("memory", of_targets.memory),
)
