"""A bundle's engines on one target."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sdrt.bundle.folder import Bundle
from sdrt_engines import Engine, EngineError, Target


class Engines:
    """Each component's engine, opened when it is first asked for. May be used from several threads.

    ``engines`` take the place of the bundle's own, by the component's name.
    """

    def __init__(
        self, bundle: Bundle, target: Target, engines: Mapping[str, Engine] | None = None
    ) -> None:
        self.bundle = bundle
        self.target = target
        self._open = dict(engines or {})
        self._loading = threading.RLock()
        self._closed = False

    def __getitem__(self, name: str) -> Engine:
        with self._loading:
            if self._closed:
                raise EngineError("this pipeline is closed: open it again to run it")
            if name not in self._open:
                self._open[name] = self.bundle.open_engine(name, self.target)
            return self._open[name]

    def close(self) -> None:
        """Closes those that were opened."""
        with self._loading:
            self._closed = True
            for engine in self._open.values():
                engine.close()
