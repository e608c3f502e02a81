"""Settings of demo_inputs, photos and style_faces."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Section


class DemoInputsSettings(Section):
    """The embedded default's pictures: photos sampled from the source, drawn avatars."""

    photos: int = Field(600, ge=20, le=100_000, description="Made-up persons to sample from the source as photos.")
    truncation: float = Field(
        0.85, gt=0, le=1, description="Truncation psi of those samples; lower is cleaner and less varied."
    )
    rejected: float = Field(
        0.2, ge=0, lt=1, description="Share of the samples left out: those the source's discriminator trusts least."
    )
    avatars: int = Field(600, ge=20, le=10_000, description="Avatars to draw, each one its own design.")
    avatar_size: int = Field(256, ge=64, le=2048, description="Side of the drawn pictures, in pixels.")


class PhotosSettings(Section):
    """Real photos: where they are, how faces are found, what is refused, how they are split."""

    path: str = Field(
        "data/demo/photos",
        min_length=1,
        description="Folder of photos (searched recursively). The default is the embedded demo; "
        "'stylefactory photos DIR' points it at yours.",
    )
    licence: str = Field(
        "", description="Licence or consent under which these photos are used; goes into every model card."
    )
    align: Literal["auto", "detect", "center", "landmarks"] = Field(
        "auto",
        description="How faces are found: auto takes landmarks.csv when the folder has one, else detects; detect; "
        "center (pictures already cropped like FFHQ); landmarks (landmarks.csv only).",
    )
    detector: Literal["auto", "yunet", "haar"] = Field(
        "auto", description="auto takes YuNet when its ONNX file is found, else the Haar cascades of OpenCV."
    )
    faces: Literal["largest", "all"] = Field(
        "largest", description="Which faces of a group photo are kept: the largest, or all that are big enough."
    )
    min_source: float = Field(
        0.75,
        gt=0,
        le=8,
        description="Smallest crop side in the photo, as a multiple of the working resolution; below is mush.",
    )
    min_sharpness: float = Field(
        1.5,
        ge=0,
        description="Mean absolute Laplacian of luma (0-255) inside the head at working resolution; below is rejected.",
    )
    min_brightness: float = Field(
        20, ge=0, le=255, description="Mean luma inside the head below which a photo is too dark."
    )
    max_brightness: float = Field(
        245, ge=0, le=255, description="Mean luma inside the head above which a photo is burnt out."
    )
    max_roll: float = Field(45, gt=0, le=180, description="Largest roll (tilted head) in degrees; alignment undoes it.")
    max_yaw: float = Field(
        50, gt=0, le=90, description="Largest estimated yaw (turned head) in degrees; profiles align badly."
    )
    person_pattern: str = Field(
        "",
        description="Regular expression whose first group is the person in a file's name; empty recognises common "
        "patterns, then embeddings when a face-recognition ONNX is found, else one person per file.",
    )
    holdout: str = Field(
        "",
        description="CSV with a column file or person: these always go to the test split; a line that names nobody is "
        "an error. Empty: none.",
    )
    val_share: float = Field(0.1, ge=0, lt=0.5, description="Share of persons for validation (by a stable hash).")
    test_share: float = Field(0.1, ge=0, lt=0.5, description="Share of persons for testing (by a stable hash).")
    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Strength of sampling weights that even out pose, brightness and skin tone: 0 off, 1 full.",
    )
    background_copies: int = Field(
        0, ge=0, le=8, description="Extra copies per training photo with the background replaced through the mask."
    )
    min_usable: int = Field(20, ge=1, description="`stylefactory photos` refuses fewer usable photos ('unusable').")


class StyleFacesSettings(Section):
    """Style pictures: how drawn faces are aligned, what is refused, how they are split."""

    align: Literal["auto", "detect", "alpha", "center", "landmarks"] = Field(
        "auto",
        description="How drawn faces are aligned: auto takes landmarks.csv when there, else detection backed by the "
        "other pictures of the set and by alpha; detect (the same without landmarks.csv); alpha (head silhouette); "
        "center (already cropped like FFHQ); landmarks (landmarks.csv only).",
    )
    detector: Literal["auto", "yunet", "haar"] = Field(
        "auto", description="auto takes YuNet when its ONNX file is found, else the Haar cascades of OpenCV."
    )
    min_source: float = Field(
        0.75, gt=0, le=8, description="Smallest crop side in the picture, as a multiple of the working resolution."
    )
    min_sharpness: float = Field(
        0.5, ge=0, description="Mean absolute Laplacian of luma (0-255) inside the head; flat drawings have little."
    )
    max_roll: float = Field(60, gt=0, le=180, description="Largest roll in degrees that is accepted.")
    max_yaw: float = Field(70, gt=0, le=90, description="Largest estimated yaw in degrees; drawn noses mislead it.")
    design_pattern: str = Field(
        "",
        description="Regular expression whose first group is the design in a file's name (its variants stay in one "
        "split); empty strips skin-tone code points and trailing variant numbers.",
    )
    val_share: float = Field(0.1, ge=0, lt=0.5, description="Share of designs for validation (by a stable hash).")
    test_share: float = Field(0.1, ge=0, lt=0.5, description="Share of designs for testing (by a stable hash).")
    balance: float = Field(
        0.0, ge=0, le=1, description="Strength of sampling weights that even out brightness and tone."
    )
    backgrounds: Literal["mixed", "plain", "keep"] = Field(
        "mixed",
        description="What goes behind pictures with transparency: mixed (colours, gradients, shapes, textures), plain "
        "(one colour each) or keep (white).",
    )
    min_usable: int = Field(20, ge=1, description="`stylefactory new-style` refuses fewer usable pictures.")
