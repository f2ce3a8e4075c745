"""Figures and threads: plotly looks into a pandas that another thread may be importing at that moment."""

import subprocess
import sys

CODE = "import sys, app.chart; print(hasattr(sys.modules.get('pandas'), 'Series'))"


def test_pandas_is_whole_before_a_figure_is_made() -> None:
    """Otherwise a second visitor in the first seconds of a busy dashboard meets an AttributeError of a half-imported pandas."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "True"
