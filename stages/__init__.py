"""The work: one package per stage group, started by DVC as ``python -m stages...``."""

import os

# Before torch is imported, which takes seconds: a DVC killed in that time must still be missed (common.runner).
STARTED_BY = os.getppid()
