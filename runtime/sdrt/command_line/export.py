"""`sdrt export` and `sdrt build`: the only commands that reach `sdrt_export`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sdrt.bundle.folder import Bundle
from sdrt.command_line.printable import printable
from sdrt.errors import SdrtError, UsageError
from sdrt.notes import Note
from sdrt.targets.int8 import in_int8, int8_targets
from sdrt_engines import Target, backend_of
from sdrt_engines.backend import INT8
from sdrt_export.building.builder import BuildOptions
from sdrt_export.building.builders import builder_of
from sdrt_export.quantizing.prompts import prompts_in


def export(options: argparse.Namespace) -> None:
    """Exports a checkpoint and builds the bundle for targets, or adds models to a bundle."""
    additions = {
        "controlnets": _each_once(options.controlnets),
        "tiny_vae": options.tiny_vae,
        "embeddings": options.embeddings,
    }
    _check_place(options, any(additions.values()))
    targets = _targets_to_build(options.targets)
    given = {"weights": options.weights, "replace": options.replace, **additions}
    try:  # the exporter checks the checkpoint before it imports slow libraries
        from sdrt_export.adding import add_to_bundle
        from sdrt_export.exporting import export_checkpoint

        if options.into is not None:
            add_to_bundle(options.into, **given)
        else:
            export_checkpoint(
                options.source,
                options.output,
                prediction_type=options.prediction_type,
                loras=options.loras,
                vae=options.vae,
                on_note=_print_note,
                **given,
            )
    except ModuleNotFoundError as error:
        raise SdrtError(
            f"'sdrt export' needs {error.name}, which is not installed: pip install 'sdrt[export]'"
        ) from error
    path = options.into or options.output
    for target in targets:
        _build(path, target, BuildOptions())
    sys.stdout.write(f"{printable(_summary(path))}\n")


def _check_place(options: argparse.Namespace, adds: bool) -> None:
    """UsageError unless there is a checkpoint to export, or something to add to a bundle."""
    if options.into is not None and options.loras:
        raise UsageError(
            "--lora merges into the weights of a checkpoint: export the checkpoint again, with "
            "--lora and -o instead of --into"
        )
    if options.into is not None and options.vae is not None:
        raise UsageError(
            "--vae replaces a checkpoint's VAE, which a bundle cannot exchange: export the "
            "checkpoint again with it"
        )
    if options.into is not None and (options.source is not None or not adds):
        raise UsageError(
            "--into adds to a bundle: it goes with --controlnet NAME=PATH, --embedding PATH or "
            "--tiny-vae PATH, and without a checkpoint (see sdrt export --help)"
        )
    if options.into is None and options.source is None:
        raise UsageError("the checkpoint to export is missing (see sdrt export --help)")


def _print_note(note: Note) -> None:
    sys.stderr.write(f"sdrt: note: {printable(note)}\n")


def _summary(path: Path) -> str:
    """One line on a bundle: its networks, size, distance to torch, and the next command."""
    manifest = Bundle.open(path).manifest
    files = [*manifest.files, *(file for part in manifest.components for file in part.files)]
    size = sum({file.path: file.size for file in files}.values())  # components share files
    measured = [(part.parity.psnr, part.name) for part in manifest.components if part.parity]
    psnr, worst = min(measured)
    return (
        f"{path}: {len(manifest.components)} networks, {size / 1e6:.0f} MB, PSNR {psnr:.0f} dB or "
        f'more against torch ({worst}); next: sdrt run {shlex.quote(str(path))} "a prompt"'
    )


def _targets_to_build(texts: Sequence[str]) -> list[Target]:
    """The targets that need a build. Raises errors for impossible ones before an export."""
    named = [Target.parse(text) for text in texts]
    targets = [target for target in named if backend_of(target).runs != "network"]
    for target in targets:
        builder_of(target).require(target)
    return targets


def _each_once(controlnets: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The ControlNets by name. Raises `UsageError` if two have the same."""
    counts = Counter(name for name, _ in controlnets)
    for name, count in counts.items():
        if count > 1:
            raise UsageError(
                f"argument --controlnet: '{name}' is given twice: give each ControlNet its own name"
            )
    return dict(controlnets)


def build(options: argparse.Namespace) -> None:
    """Builds the files that a target runs instead of the bundle's ONNX; reports stages."""
    wanted = BuildOptions(
        components=tuple(options.component),
        precision=None if options.precision == INT8 else options.precision,
        prompts=() if options.calibrate is None else prompts_in(options.calibrate),
        shapes=tuple(options.shapes),
        batch=options.batch,
        chunks=options.chunks,
        prune=options.prune,
    )
    built = _build(options.bundle, _target_to_build(options), wanted, quiet=options.quiet)
    if not options.quiet:
        sys.stdout.write("".join(f"{path}\n" for path in built))
        if not built:
            sys.stdout.write("everything is already built\n")


def _target_to_build(options: argparse.Namespace) -> Target:
    """The target of `sdrt build`. One int8 graph serves all targets with that precision, so
    `--precision int8` needs no target."""
    if options.target is None and options.precision != INT8:
        raise UsageError("--target is missing: name what to build for (see sdrt build --help)")
    target = int8_targets()[0] if options.target is None else Target.parse(options.target)
    return in_int8(target) if options.precision == INT8 else target


def _build(
    bundle: str | Path, target: Target, options: BuildOptions, *, quiet: bool = False
) -> list[Path]:
    """Builds into the bundle, or the copy of the built-in one; returns the new files."""

    def report(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{printable(line)}\n")

    builder = builder_of(target)
    if reason := builder.refusal(options):
        raise UsageError(reason)
    return builder.build(Bundle.open(bundle).to_build_in(), target, options, report)
