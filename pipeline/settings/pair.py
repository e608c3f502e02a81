"""Settings of stage 2: translate, pair."""

from pydantic import Field

from pipeline.settings.base import Section


class TranslateSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class PairSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
