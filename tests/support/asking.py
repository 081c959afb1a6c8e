"""Answers to asks, without a bundle."""

from __future__ import annotations

from sdrt.ask import Answer, Ask, Run
from sdrt_engines import Engine


def run_on(**engines: Engine) -> Run:
    """Runs asks of one network each on these engines, by the component's name."""

    def run(ask: Ask) -> Answer:
        (link,) = ask.chain
        feeds = {**link.constant.feeds, **link.changing}
        return Answer(engines[link.component].run(feeds, ask.outputs))

    return run
