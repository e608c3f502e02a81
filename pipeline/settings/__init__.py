"""Typed view of params.yaml: one model per stage, validated as a whole before anything runs.

``load_settings`` refuses wrong, missing and unknown keys with their path, the value and what is allowed.
"""

from pipeline.settings.base import Section
from pipeline.settings.common import CommonSettings
from pipeline.settings.evaluate import EvaluateSettings
from pipeline.settings.faces import DemoInputsSettings, PhotosSettings, StyleFacesSettings
from pipeline.settings.generate import FuseSettings, GenerateSettings, SourceSettings, TransferSettings
from pipeline.settings.loading import load_settings, parse_settings
from pipeline.settings.mobile import ExportSettings, MobileSettings
from pipeline.settings.ops import OpsSettings
from pipeline.settings.pair import PairSettings, TranslateSettings
from pipeline.settings.tree import STAGE_SECTIONS, STYLE_SECTIONS, Settings, StyleItem

__all__ = [
    "STAGE_SECTIONS",
    "STYLE_SECTIONS",
    "CommonSettings",
    "DemoInputsSettings",
    "EvaluateSettings",
    "ExportSettings",
    "FuseSettings",
    "GenerateSettings",
    "MobileSettings",
    "OpsSettings",
    "PairSettings",
    "PhotosSettings",
    "Section",
    "Settings",
    "SourceSettings",
    "StyleFacesSettings",
    "StyleItem",
    "TransferSettings",
    "TranslateSettings",
    "load_settings",
    "parse_settings",
]
