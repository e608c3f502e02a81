"""Settings of evaluation: metrics and the verdict's thresholds."""

from pydantic import Field

from pipeline.settings.base import Section


class EvaluateSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
