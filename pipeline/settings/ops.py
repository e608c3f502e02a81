"""Settings of operations: slots, time-outs, retries, notification."""

from pydantic import Field

from pipeline.settings.base import Section


class OpsSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
