"""Settings of stage 1: source, transfer, fuse, generate."""

from pydantic import Field

from pipeline.settings.base import Section


class SourceSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class TransferSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class FuseSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class GenerateSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
