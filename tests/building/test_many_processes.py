"""Many processes that use one bundle while another one builds files for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.command import environment
from support.toy_bundle import write_toy_bundle

GENERATE = """
import sys, sdrt
for _ in range(5):
    with sdrt.Pipeline.open(sys.argv[1], "cpu") as pipe:
        print(pipe("a red circle", seed=1, num_inference_steps=1).latents.tobytes().hex())
"""


def test_they_all_get_the_same_image(tmp_path: Path) -> None:
    root = write_toy_bundle(tmp_path / "bundle")
    commands = [
        *([sys.executable, "-c", GENERATE, str(root)] for _ in range(2)),
        [sys.executable, "-m", "sdrt", "build", str(root), "--target", "cpu"],
    ]
    processes = [
        subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    generated = "".join(out for out, _ in outputs[:2]).split()
    assert len(generated) == 10
    assert len(set(generated)) == 1
    assert not list(tmp_path.rglob(".sdrt-*"))
