"""What `make` says before it sets up .venv; ends with status 1 and one line where this Python cannot do that.

An old Python has to be able to read this too: no f-strings, no annotations.
"""

import os
import platform
import shutil
import sys

CPU_BUILD = "--extra-index-url https://download.pytorch.org/whl/cpu"

# Sums over the files that `pip install --dry-run --report FILE -c constraints.txt -e ".[dev]"` names on
# x86-64 with torch for processors and with torch for CUDA, and `du -sh .venv`; rounded up.
SIZE = "0.45 GB to download, 2 GB on disk"
SIZE_WITH_CUDA = "3 GB to download"


def obstacle():
    """Why this Python cannot set up .venv; None where it can."""
    if sys.version_info < (3, 11):  # noqa: UP036
        return "promptgraft needs Python 3.11 or newer, and this is " + platform.python_version()
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return "this Python has no " + str(error.name) + " (on Debian and Ubuntu: apt install python3-venv)"
    return None


def gets_cuda(flags):
    """Whether pip will fetch torch for CUDA, unless it is configured to do otherwise."""
    return sys.platform == "linux" and platform.machine() == "x86_64" and not flags


def has_gpu():
    """Whether an NVIDIA GPU shows."""
    return bool(shutil.which("nvidia-smi")) or os.path.exists("/proc/driver/nvidia")  # noqa: PTH110


def main(flags, goals):
    """Say what is about to happen, or why it cannot."""
    problem = obstacle()
    if problem:
        sys.exit(problem + "; name another Python: make PYTHON=python3.12 " + goals)
    if os.path.exists(".venv/bin/python"):  # noqa: PTH110
        print("Bringing .venv up to date.")
    elif not gets_cuda(flags) or has_gpu():
        print("Setting up .venv, once: " + (SIZE_WITH_CUDA if gets_cuda(flags) else SIZE) + ", some minutes.")
    else:
        print("Setting up .venv, once, some minutes: " + SIZE_WITH_CUDA + ", since the package index serves torch for")
        print("CUDA on Linux. No NVIDIA GPU shows here: for the build without CUDA (" + SIZE + ")")
        print("stop this with Ctrl-C and type")
        print('  make PIP_FLAGS="' + CPU_BUILD + '" ' + goals)
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
