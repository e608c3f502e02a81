"""Settings of demo_inputs, photos and style_faces."""

from pydantic import Field

from pipeline.settings.base import Section


class DemoInputsSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class PhotosSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")


class StyleFacesSettings(Section):
    """TODO."""

    placeholder: int = Field(0, ge=0, description="Replaced by the part that owns this section.")
