"""Notebooks as they are run on a server."""

import subprocess
import sys

from helpers import paths

THRESHOLDS = {"min_photos": 1, "max_photos_coarse": 40, "max_photos_middle": 20, "max_photos_fine": 10}
"""Of cells that a hundred photos can fill."""


def papermill(notebook, folder, **parameters):
    """The process that ran a notebook from a folder, ended."""
    command = [sys.executable, "-m", "papermill", str(paths.notebook(notebook)), "out.ipynb", "--no-progress-bar"]
    for name, value in parameters.items():
        command += ["-p", name, str(value)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
