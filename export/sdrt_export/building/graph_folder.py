"""Backends' own graphs of a bundle's networks: existing ones stay, missing ones are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sdrt.bundle.file_records import sealed_file, verify_network
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.errors import SdrtError
from sdrt.files.atomic import appearing_folder
from sdrt.targets.built_graph import BuiltGraph, graph_folder
from sdrt_export.options import Report


def missing_graphs(
    bundle: Bundle,
    components: Sequence[str],
    graph_of: Callable[[Component], BuiltGraph | None],
    report: Report,
) -> list[Component]:
    """The networks among `components` (or all) whose graph is missing or damaged."""
    chosen = [bundle.component(name) for name in components] or bundle.manifest.components
    missing = [component for component in chosen if not _is_whole(bundle, graph_of(component))]
    for component in chosen:
        if component not in missing:
            report(f"{component.name}: already built")
    return missing


@contextmanager
def appearing_graph(
    bundle: Bundle, backend: str, component: Component, kind: type[BuiltGraph]
) -> Iterator[Path]:
    """A draft folder for a graph of the network and its record; verifies the network's files first.

    The draft replaces an existing graph when the block succeeds.
    """
    verify_network(bundle.root, component.files)
    folder = bundle.root / graph_folder(backend, component.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with appearing_folder(folder, replace=True, proof=kind.RECORD_NAME) as draft:
        yield draft


def records_of_draft(draft: Path, backend: str, component: Component) -> tuple[FileRecord, ...]:
    """Records of a graph's files in its draft, under their final names; the model first."""
    folder = graph_folder(backend, component.name)
    written = sorted(draft.iterdir(), key=lambda path: (path.name != MODEL_NAME, path.name))
    records = (sealed_file(draft, path) for path in written)
    return tuple(replace(record, path=f"{folder}/{record.path}") for record in records)


def write_record(draft: Path, graph: BuiltGraph) -> None:
    """Puts the graph's record into its draft."""
    (draft / graph.RECORD_NAME).write_text(graph.to_json(), encoding="utf-8")


def _is_whole(bundle: Bundle, graph: BuiltGraph | None) -> bool:
    if graph is None:
        return False
    try:
        verify_network(bundle.root, graph.files)
    except SdrtError:
        return False
    return True
