"""Kills at random moments, six, or as many as ``DENSEHEAD_KILLS`` says.

With progress, and a seed: ``python -m tests.engine.kills --kills 50 --seed 0``.
"""

import os
import subprocess
import sys

import pytest

from tests.engine.tiny import ROOT


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_anywhere_and_resumed():
    kills = os.environ.get("DENSEHEAD_KILLS", "6")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.engine.kills", "--kills", kills]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{kills} kills, " in ran.stdout.splitlines()[-1]
