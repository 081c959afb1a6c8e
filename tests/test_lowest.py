"""The lower bounds that `make test-lowest` installs."""

from __future__ import annotations

import tomllib

from lowest import PYPROJECT, lowest_requirements


def test_bounds_become_exact_and_torch_is_left_out() -> None:
    project = {
        "dependencies": ["numpy>=1.26", "rich>=13.7"],
        "optional-dependencies": {
            "export": ["torch>=2.6", "torchsde>=0.2", "numpy>=1.26"],
            "plot": ["matplotlib>=3.8"],
        },
    }
    assert lowest_requirements(project, []) == ["numpy==1.26", "rich==13.7"]
    assert lowest_requirements(project, ["export"]) == [
        "numpy==1.26",
        "rich==13.7",
        "torchsde==0.2",
    ]


def test_every_requirement_has_a_lower_bound_and_no_upper_one() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    for exact in lowest_requirements(project, list(project["optional-dependencies"])):
        _, _, version = exact.partition("==")
        assert version.replace(".", "").isdigit(), exact
