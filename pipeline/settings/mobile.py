"""Settings of stage 3: mobile, export."""

from pydantic import Field

from pipeline.settings.base import Section


class MobileSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class ExportSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
