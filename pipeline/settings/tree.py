"""The whole of params.yaml as one model, and a style's view of it."""

import re
from typing import Any

from pydantic import Field, field_validator

from pipeline.settings.base import Section
from pipeline.settings.common import CommonSettings
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.faces import DemoInputsSettings, PhotosSettings, StyleFacesSettings
from pipeline.settings.generate import FuseSettings, GenerateSettings, SourceSettings, TransferSettings
from pipeline.settings.mobile import ExportSettings, MobileSettings
from pipeline.settings.ops import OpsSettings
from pipeline.settings.pair import PairSettings, TranslateSettings

STYLE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
RESERVED = frozenset(
    {
        "photos",
        "source",
        "demo_inputs",
        "index",
        "weights",
        "shipped",
        "external",
        "metrics",
        "curves",
        "history",
        "cache",
    }
)

Overrides = dict[str, Any]


class StyleItem(Section):
    """One style: where its pictures are, under what licence, and which stage settings it overrides.

    Every stage has its map here, empty or not: dvc.yaml tracks ``styles.<name>.<stage>``, and a missing key would
    stop the parsing of every stage.
    """

    pictures: str = Field(description="Folder of the style's pictures, relative to the project.")
    licence: str = Field(
        "", description="Licence or consent under which the pictures may be used; goes into model cards."
    )
    style_faces: Overrides = Field(default_factory=dict, description="Overrides of style_faces for this style.")
    transfer: Overrides = Field(default_factory=dict, description="Overrides of transfer for this style.")
    fuse: Overrides = Field(default_factory=dict, description="Overrides of fuse for this style.")
    generate: Overrides = Field(default_factory=dict, description="Overrides of generate for this style.")
    translate: Overrides = Field(default_factory=dict, description="Overrides of translate for this style.")
    pair: Overrides = Field(default_factory=dict, description="Overrides of pair for this style.")
    mobile: Overrides = Field(default_factory=dict, description="Overrides of mobile for this style.")
    export: Overrides = Field(default_factory=dict, description="Overrides of export for this style.")
    evaluate: Overrides = Field(default_factory=dict, description="Overrides of evaluate for this style.")


STYLE_SECTIONS = tuple(name for name in StyleItem.model_fields if name not in ("pictures", "licence"))


class Settings(Section):
    """Everything in params.yaml. ``item`` is set by :meth:`for_style` only."""

    common: CommonSettings = Field(description="Settings every stage shares.")
    source: SourceSettings = Field(description="Stage source: the face source model.")
    demo_inputs: DemoInputsSettings = Field(description="Stage demo_inputs: the embedded default's photos and avatars.")
    photos: PhotosSettings = Field(description="Stage photos: people's photos become aligned faces.")
    style_faces: StyleFacesSettings = Field(description="Stage style_faces: style pictures become aligned faces.")
    transfer: TransferSettings = Field(description="Stage transfer: the source learns the style.")
    fuse: FuseSettings = Field(description="Stage fuse: layer interpolation of source and transferred model.")
    generate: GenerateSettings = Field(description="Stage generate: styled faces in number.")
    translate: TranslateSettings = Field(description="Stage translate: photo to styled face, background kept.")
    pair: PairSettings = Field(description="Stage pair: paired training data.")
    mobile: MobileSettings = Field(description="Stage mobile: the phone-sized network.")
    export: ExportSettings = Field(description="Stage export: ONNX and MNN files.")
    evaluate: EvaluateSettings = Field(description="Stage evaluate: metrics, verdict, report.")
    ops: OpsSettings = Field(description="Runs: slots, time-outs, retries, notification.")
    styles: dict[str, StyleItem] = Field(description="The styles, by name.")
    item: StyleItem | None = Field(None, exclude=True, description="The style whose view this is.")

    @field_validator("styles")
    @classmethod
    def _style_names(cls, styles: dict[str, StyleItem]) -> dict[str, StyleItem]:
        for name in styles:
            if not STYLE_NAME.fullmatch(name) or name in RESERVED:
                raise ValueError(
                    f"'{name}' is no style name: at most 40 lower-case letters, digits, - and _, a letter first, "
                    f"and none of {', '.join(sorted(RESERVED))}"
                )
        return styles

    def for_style(self, name: str) -> "Settings":
        """This tree with the overrides of style ``name`` merged in and ``item`` set.

        Raises:
            SettingsError: no such style.
        """
        from stages.common.errors import SettingsError

        if name not in self.styles:
            known = ", ".join(self.styles) or "none yet"
            raise SettingsError(f"style '{name}' is not in params.yaml (styles: {known})")
        item = self.styles[name]
        merged = {}
        for section in STYLE_SECTIONS:
            base = getattr(self, section)
            merged[section] = type(base).model_validate(base.model_dump() | getattr(item, section))
        return self.model_copy(update={**merged, "item": item})


STAGE_SECTIONS = tuple(name for name in Settings.model_fields if name not in ("common", "ops", "styles", "item"))
