"""Settings of evaluation: metrics and the verdict's thresholds."""

from pydantic import Field

from pipeline.settings.base import Section


class EvaluateSettings(Section):
    """What is measured, on how many pictures."""

    fid_weights: str = Field(
        "",
        description="pt_inception-2015-12-05-6726825d.pth for genuine FID; empty: found by itself, else the encoder.",
    )
