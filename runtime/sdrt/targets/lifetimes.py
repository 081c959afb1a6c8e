"""The networks of one request: opened before it needs them, closed when it no longer does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from sdrt.ask import Answer, Ask
from sdrt.targets.engines import Engines
from sdrt.targets.parts import answer_in_parts
from sdrt_engines import OutOfMemoryError, backend_of
from sdrt_engines.interruptible import in_background


class Lifetimes:
    """Answers a request's asks. `components` are its networks in the order of their first asks.

    Opened in the background: the first denoiser with its ControlNets (`first`) while the text
    encoders open and run, and the networks after it once it has run, so that they do not delay the
    first step. `last` means that no request follows: each network is closed after its last use.
    """

    def __init__(self, components: Sequence[str], first: Sequence[str], *, last: bool) -> None:
        after = components.index(first[-1]) + 1
        self._components, self._denoiser, self._last = components, first[-1], last
        self._groups = (first, components[after:])
        self._ahead: _Ahead | None = None

    def answer(self, ask: Ask, engines: Engines) -> Answer:
        """The answer to an ask. Raises the error of a network that did not open ahead, which the
        request needs later."""
        if self._ahead is None or self._ahead.engines is not engines:  # another target
            self.close()
            self._ahead = _Ahead(engines, list(self._groups))
            self._ahead.open_next()
        self._ahead.begin(ask)
        if self._last:
            engines.close_unused(self._before(ask, engines))
        answer = answer_in_parts(ask, engines)
        if ask.chain[-1].component == self._denoiser:
            self._ahead.open_next()
        return answer

    def close(self) -> None:
        """Opens no further networks."""
        if self._ahead is not None:
            self._ahead.ended = True

    def _before(self, ask: Ask, engines: Engines) -> list[str]:
        """The networks of earlier stages."""
        stage = engines.memory.stage(ask.chain[-1].component)
        return [*takewhile(lambda name: engines.memory.stage(name) != stage, self._components)]


class _Ahead:
    """Groups of networks that open in the background, on the engines of one target."""

    def __init__(self, engines: Engines, groups: list[Sequence[str]]) -> None:
        self.engines, self.ended = engines, False
        self._groups = groups if backend_of(engines.target).opens_during_runs else []
        self._asked: set[str] = set()  # networks, which may have been closed again
        self._error: Exception | None = None

    def open_next(self) -> None:
        if self._groups:
            names = self._groups.pop(0)
            in_background(lambda: self._open(names))

    def begin(self, ask: Ask) -> None:
        """Leaves it to an ask to open its networks. Raises the error of one that did not open."""
        if self._error is not None:
            raise self._error
        self._asked.update(link.component for link in ask.chain)

    def _open(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                if not (self.ended or name in self._asked or self.engines.memory.by_stage):
                    self.engines[name]
        except OutOfMemoryError:
            pass  # there may be enough when the network is needed
        except Exception as error:
            self._error = error
