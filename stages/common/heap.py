"""glibc's heap settings for training: keep freed memory instead of handing it back to the kernel."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc accepts no more


def keep_freed_memory() -> bool:
    """Stops glibc from mapping and unmapping every activation tensor anew; False where there is no glibc.

    A tensor of some megabytes is by default its own mmap, whose pages are zeroed by the kernel on every use.
    Measured on a GAN step at 64 px (1 core): 30.5 to 37.5 img/s. The process keeps its peak memory until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl and others have no mallopt
        return False
    done = mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(done)
