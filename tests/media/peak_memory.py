"""How much memory a piece of work takes, measured in a process of its own."""

import subprocess
import sys


def peak_growth_mib(ready: str, work: str) -> float:
    """MiB by which the peak resident memory grows during ``work``, after ``ready`` ran."""
    code = (
        "import resource\nfrom pathlib import Path\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        f"{ready}\nbefore = peak()\n{work}\nprint('grown', peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split("grown")[-1])
