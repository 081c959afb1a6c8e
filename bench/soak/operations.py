"""The operations of a soak: what happens to each request, and whether it ended as it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from threading import Timer
from typing import Literal, TypeAlias, get_args

from PIL.Image import Image

from sdrt import (
    DeadlineExceeded,
    EngineError,
    NonFiniteError,
    Pipeline,
    Request,
    RequestCancelled,
    RequestError,
    Result,
    SamplerError,
    Stream,
)
from soak.pipelines import Pipelines, Served, twin_of
from soak.requests import BAD, SIZE

Way: TypeAlias = Literal["call", "stream", "leave", "close", "deadline", "bad input", "reopen"]
Ending: TypeAlias = Literal[
    "identical", "left", "cancelled", "expired", "refused", "reopened", "wrong", "unexpected"
]
GOOD: tuple[Ending, ...] = ("identical", "left", "cancelled", "expired", "refused", "reopened")
BAD_ENDINGS: tuple[Ending, ...] = ("wrong", "unexpected")

_WEIGHTS: Mapping[Way, int] = {  # of 100 operations
    "call": 40,
    "stream": 12,
    "leave": 10,
    "close": 13,
    "deadline": 15,
    "bad input": 7,
    "reopen": 3,
}
_SHARES = {"cpu": 45, "openvino": 20, "failing": 35}  # of the operations on requests
_REOPENED = {"cpu": 20, "openvino": 10, "failing": 70}  # the failing one, to fail again


@dataclass(frozen=True)
class Operation:
    """One of the many: all of it follows from the seed and the index."""

    index: int
    way: Way
    target: str
    number: int  # of the distinct request, or of the bad input
    moment: float  # when it is cancelled, or its deadline: in seconds of a usual request


@dataclass(frozen=True)
class Ended:
    """The end of an operation."""

    operation: Operation
    ending: Ending
    detail: str = ""
    repeats: int = 0  # because its pipeline was closed


def operation_of(seed: int, index: int, targets: Sequence[str], num_requests: int) -> Operation:
    """The operation at this place of a soak."""
    random = Random(f"{seed} operation {index}")
    way = random.choices(get_args(Way), [_WEIGHTS[each] for each in get_args(Way)])[0]
    shares = _REOPENED if way == "reopen" else _SHARES
    target = random.choices(targets, [shares[each] for each in targets])[0]
    number = random.randrange(len(BAD) if way == "bad input" else num_requests)
    return Operation(index, way, target, number, random.uniform(0, 2))


# --- twins


@dataclass(frozen=True)
class Twin:
    """Hashes of the images of a request alone, and of one preview."""

    images: str
    preview: str


def twin(request: Request, pipe: Pipeline) -> Twin:
    """The hashes of a request on this pipeline, which nothing else uses."""
    stream = pipe.stream(request)
    previews = _previews(stream, request)
    return Twin(hash_of_result(stream.result), previews)


def hash_of_result(result: Result) -> str:
    """A hash of the pixels and of the latents, which show more."""
    return sha256(_pixels(result.images) + result.latents.tobytes()).hexdigest()


def _previews(stream: Stream, request: Request) -> str:
    """Takes all steps; the hash of the preview at one of them."""
    found = ""
    for step in stream:
        if step.index == (request.seed or 0) // 10 % step.total:
            found = sha256(_pixels(step.preview())).hexdigest()
    return found


def _pixels(images: Iterable[Image]) -> bytes:
    return b"".join(f"{image.size}".encode() + image.tobytes() for image in images)


# --- operations


class Operator:
    """Performs operations; any number of threads may call it."""

    def __init__(
        self,
        seed: int,
        requests: Sequence[Request],
        twins: Mapping[str, Sequence[Twin]],
        pipelines: Pipelines,
        pace: float,
    ) -> None:
        """`twins` by target; a request usually takes `pace` seconds."""
        self._seed, self._requests, self._twins = seed, requests, twins
        self._pipelines, self._pace = pipelines, pace
        self._ways: Mapping[Way, Callable[[Operation, Pipeline], Ending]] = {
            "call": self._call,
            "stream": self._stream,
            "leave": self._leave,
            "close": self._close,
            "deadline": self._deadline,
            "bad input": self._bad_input,
            "reopen": self._reopen,
        }

    def __call__(self, operation: Operation) -> Ended:
        """Repeats it if its pipeline is closed meanwhile."""
        repeats = 0
        while True:
            served = self._pipelines[operation.target]
            try:
                ending = self._ways[operation.way](operation, served.pipe)
            except Exception as error:
                if _is_closed(served, error):
                    repeats += 1
                    continue
                return Ended(operation, "unexpected", f"{type(error).__name__}: {error}", repeats)
            return Ended(operation, ending, "", repeats)

    def _call(self, operation: Operation, pipe: Pipeline) -> Ending:
        return self._compared(operation, pipe(self._requests[operation.number]))

    def _stream(self, operation: Operation, pipe: Pipeline) -> Ending:
        request = self._requests[operation.number]
        stream = pipe.stream(request)
        right = _previews(stream, request) == self._twin(operation).preview
        return self._compared(operation, stream.result) if right else "wrong"

    def _leave(self, operation: Operation, pipe: Pipeline) -> Ending:
        """Breaks out of the loop; some streams are closed, others forgotten."""
        stream = pipe.stream(self._requests[operation.number])
        for step in stream:
            if step.index >= step.total * operation.moment / 2:
                break
        if operation.number % 2:
            stream.close()
        return "left"

    def _close(self, operation: Operation, pipe: Pipeline) -> Ending:
        """Another thread closes the stream at some moment."""
        stream = pipe.stream(self._requests[operation.number])
        closer = Timer(operation.moment * self._pace, stream.close)
        closer.start()
        try:
            for _ in stream:
                pass
            return self._compared(operation, stream.result)
        except RequestCancelled:
            return "cancelled"
        finally:
            closer.cancel()
            closer.join()

    def _deadline(self, operation: Operation, pipe: Pipeline) -> Ending:
        seconds = max(0.001, operation.moment * self._pace)
        try:
            result = pipe(self._requests[operation.number], deadline=seconds)
        except DeadlineExceeded:
            return "expired"
        return self._compared(operation, result)

    def _bad_input(self, operation: Operation, pipe: Pipeline) -> Ending:
        options = {"prompt": "a red circle", **SIZE, **BAD[operation.number]}
        try:
            pipe(**options)
        except (RequestError, SamplerError):
            return "refused"
        return "wrong"

    def _reopen(self, operation: Operation, pipe: Pipeline) -> Ending:
        random = Random(f"{self._seed} pipeline {operation.index}")
        self._pipelines.reopen(operation.target, random)
        return "reopened"

    def _compared(self, operation: Operation, result: Result) -> Ending:
        same = hash_of_result(result) == self._twin(operation).images
        return "identical" if same else "wrong"

    def _twin(self, operation: Operation) -> Twin:
        return self._twins[twin_of(operation.target)][operation.number]


def _is_closed(served: Served, error: Exception) -> bool:
    """True for the error of a request whose pipeline was replaced: it was closed, or its target
    failed and no other is opened any more."""
    return served.closing and isinstance(error, EngineError | NonFiniteError)
