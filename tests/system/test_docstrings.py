"""Public functions say what goes in, what comes out, what can go wrong and where it comes from.

Read from the source, nothing is imported. The rules, made to be useful rather than complete. Where a docstring "says"
something, its class's and its module's count, too, except for errors: those are looked for beside the function.

- Presence: every public function, class and method has a docstring. Not asked of ``forward``, ``state_dict`` and
  ``load_state_dict``, whose meaning is torch's: their class describes them.
- Shapes: whoever takes or returns a Tensor or an array says a shape or a dtype. Tables of tensors by name
  (``dict[str, Tensor]``) have no one shape and are not asked.
- Ranges: whoever takes or returns pictures or masks as tensors or arrays (told by their names, :data:`PICTURES` and
  :data:`MASKS`) says which values they have, or a dtype that implies it (uint8, bool); of each kind by itself.
- Errors: whoever raises one of the project's errors in its own body names that very class in its own docstring or its
  class's. For ``__init__`` and the other special methods that is the class's. Not asked of a ``main``, of ``command``
  (pair's trials, another main) and of ``pipeline/cli*.py``: there it ends as a line and an exit code.
- Sources: what :data:`SOURCES` lists names the paper or standard that it follows, and in the modules listed there
  nothing public is missing from the list but what :data:`OWN` says is this project's own or mere plumbing.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parents[2]
FILES = sorted(path for part in ("stages", "pipeline") for path in (REPO / part).rglob("*.py"))
ERRORS = re.findall(r"^class (\w+)\(", (REPO / "stages/common/errors.py").read_text(), re.M)
MAKERS = {"from_os_error": "StageError"}  # functions that make an error to raise, and the one they mostly make
ENTRIES = {"main", "command"}
OF_TORCH = {"forward", "state_dict", "load_state_dict"}
SHAPE = re.compile(
    r"\[[A-Z\d.][^\]]*\]|\[\w+(, [^\]]+)?\]|N[13]?C?HW|\b(u?int\d+|float\d+|bool|scalars?|dtype)\b|[Bb]oolean|[Ss]calar"
)
ARRAY = re.compile(r"\b(Tensor|ndarray|NDArray|Pictures|Array)\b")
TABLE = re.compile(r"\b(dict|Mapping)\[\w+, (?:dict\[str, )?(Tensor|torch\.Tensor|np\.ndarray|NDArray\[[\w.]+\])\]+")
# words of names, and what a docstring may say about the values behind them
PICTURES = {"image", "images", "photo", "photos", "picture", "pictures", "result", "results", "styled", "pixels"}
PICTURES |= {"rgb", "rgba", "frame", "frames", "crop", "crops", "face", "faces", "output", "target", "content"}
MASKS = {"mask", "masks", "alpha", "head", "heads", "region", "regions"}
NEITHER = {"weights", "logits", "loss", "region", "regions"}  # ends of names like photo_region that hold no photo
PICTURE_RANGE = re.compile(r"\buint8\b|\[-1, 1\]|0\.\.255|\b0 to 255\b|\b(any|every) range\b")
MASK_RANGE = re.compile(r"\buint8\b|\bbool\b|[Bb]oolean|0\.\.255|\b0 (to|or) (1|255)\b|[\[(]0, (1|255)\]|>= 0")

# what follows something published: the source its docstring, its class's or its module's names ("" is the module)
SOURCES: dict[str, dict[str, str]] = {
    "stages/common/adam.py": {"ChannelsLastAdam": "Kingma and Ba 2015"},
    "stages/common/distances/frechet.py": {"": "Heusel et al. 2017"},
    "stages/common/distances/intervals.py": {
        "bootstrap": "Efron 1979",
        "difference": "Efron 1979",
        "rate": "Wilson 1927",
        "jackknife": "Kott 2001",
    },
    "stages/common/distances/neighbours.py": {
        "kid": "Binkowski et al. 2018",
        "precision_recall": "Kynkäänniemi et al. 2019",
    },
    "stages/common/distances/pixels.py": {"background_ssim": "Wang et al. 2004", "colour_shift": "CIE76"},
    "stages/common/distances/style.py": {"style_distance": "Gretton et al. 2012"},
    "stages/common/ema.py": {"EMA": "Karras et al. 2020b", "half_life_beta": "Karras et al. 2020b"},
    "stages/common/embedder.py": {"": "Chen et al. 2018", "face_crop": "Deng et al. 2019"},
    "stages/common/features.py": {"VGG19": "Simonyan & Zisserman 2015", "inception_net": "Heusel et al. 2017"},
    "stages/common/masks.py": {"": "Rother et al. 2004"},
    "stages/faces/align.py": {"": "Karras et al. 2019"},
    "stages/faces/haar.py": {"": "Viola & Jones 2001"},
    "stages/faces/yunet.py": {"": "Wu et al. 2023"},
    "stages/generate/ada.py": {"": "Karras et al. 2020b"},
    "stages/generate/anchors.py": {"": "Chong & Forsyth 2021"},
    "stages/generate/directions.py": {"pca": "Härkönen et al. 2020", "sefa": "Shen & Zhou 2021"},
    "stages/generate/encoder.py": {"": "Richardson et al. 2021", "Encoder.features": "Huang & Belongie 2017"},
    "stages/generate/feature_loss.py": {"": "Johnson et al. 2016"},
    "stages/generate/fusion.py": {"": "arXiv:2010.05334"},
    "stages/generate/inversion.py": {
        "": "Karras et al. 2020a",
        "space_penalty": "Tov et al. 2021",
        "noise_penalty": "Karras et al. 2020a",
    },
    "stages/generate/landmark_net.py": {"LandmarkNet": "Tompson et al. 2014"},
    "stages/generate/latents.py": {"LatentSpace": "Zhu et al. 2020", "to_p": "Zhu et al. 2020"},
    "stages/generate/layers.py": {
        "": "Karras et al. 2020a",
        "Linear": "Karras et al. 2018",
        "Conv": "Karras et al. 2018",
    },
    "stages/generate/losses.py": {
        "generator_loss": "Goodfellow et al. 2014",
        "discriminator_loss": "Goodfellow et al. 2014",
        "r1_penalty": "Mescheder et al. 2018",
        "path_lengths": "Karras et al. 2020a",
        "distance_consistency": "Ojha et al. 2021",
    },
    "stages/generate/near_copies.py": {"": "Zauner 2010"},
    "stages/generate/networks.py": {"": "Karras et al. 2020a", "minibatch_std": "Karras et al. 2018"},
    "stages/generate/perceptual.py": {
        "face_distance": "Zhang et al. 2018",
        "normalised_features": "Zhang et al. 2018",
    },
    "stages/generate/train.py": {"": "Karras et al. 2020b"},
    "stages/mobile/augment.py": {"jpeg": "ITU-T T.81"},
    "stages/mobile/edge.py": {"": "Chen et al. 2018", "canny": "Canny 1986"},
    "stages/mobile/losses.py": {
        "pixel_loss": "Charbonnier et al. 1994",
        "colour_loss": "Chen et al. 2020",
        "total_variation": "Rudin et al. 1992",
        "discriminator_loss": "Mao et al. 2017",
        "generator_loss": "Mao et al. 2017",
        "PatchDiscriminator": "Wang et al. 2018",
    },
    "stages/mobile/network.py": {
        "Separable": "Howard et al. 2017",
        "Residual": "Sandler et al. 2018",
        "MobileNet": "Howard et al. 2019",
    },
    "stages/mobile/upscale.py": {"": "He & Sun 2015"},
    "stages/pair/augment.py": {"augment": "Zhao et al. 2020", "smooth_edges": "Chen et al. 2018"},
    "stages/pair/layers.py": {
        "instance_norm": "Ulyanov et al. 2016",
        "layer_instance_norm": "Kim et al. 2020",
        "LIN": "Kim et al. 2020",
        "AdaLIN": "Kim et al. 2020",
        "clip_rho": "Kim et al. 2020",
        "SpectralNorm": "Miyato et al. 2018",
    },
    "stages/pair/losses.py": {
        "lsgan": "Mao et al. 2017",
        "discriminator_loss": "Chen et al. 2018",
        "cam_loss": "Kim et al. 2020",
        "pair_loss": "Mathieu et al. 2016",
        "cycle_loss": "Zhu et al. 2017",
        "total_variation": "Rudin et al. 1992",
    },
    "stages/pair/networks.py": {
        "": "Kim et al. 2020",
        "with_place": "Tancik et al. 2020",
        "CAM": "Zhou et al. 2016",
        "Discriminator": "Isola et al. 2017",
    },
    "stages/pair/training.py": {"": "Kim et al. 2020"},
}
# what is public beside it and follows nobody: this project's own, or plumbing
OWN: dict[str, str] = {
    "stages/common/distances/intervals.py": "Estimate",
    "stages/common/distances/pixels.py": "sharpness background background_psnr psnr mask_iou outline_gradient seam",
    "stages/common/distances/style.py": "StyleGap head_only style_gap",
    "stages/common/features.py": "load_vgg19 FeatureNet feature_net vgg_net encoder_net encoder_file "
    "import_torchvision",
    "stages/generate/directions.py": "attribute measure build",
    "stages/generate/landmark_net.py": "Landmarks find_landmarks load_landmark_net train_landmark_net augment blob "
    "read_folder main",
    "stages/generate/losses.py": "anchor_distance activation_distance",
    "stages/generate/perceptual.py": "region_weights",
    "stages/mobile/augment.py": "Pairs augment_pairs compose_target move moved_together warp replace_background damage",
    "stages/mobile/losses.py": "mask_loss",
    "stages/mobile/network.py": "Tier conv_bn Rise Stylized Deployed fold_batch_norm settle_to_half parameter_count "
    "count_macs",
    "stages/pair/augment.py": "flip_some region inside below look_at",
    "stages/pair/layers.py": "scale_shift reflect Conv",
    "stages/pair/losses.py": "masked_l1 background_loss mask_loss area_hinge likeness_loss",
}


class Part(NamedTuple):
    """Something public: its name, its node, and the docstrings that speak for it."""

    name: str
    node: ast.FunctionDef | ast.ClassDef
    own: str
    around: str
    module: str

    @property
    def text(self) -> str:
        return f"{self.own}\n{self.around}\n{self.module}"


def public(tree: ast.Module, special: bool = False) -> Iterator[Part]:
    """What a module shows to others; ``special``: with __init__, __call__ and the like of its classes."""
    about = ast.get_docstring(tree) or ""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node) or ""
        yield Part(node.name, node, text, "", about)
        for method in node.body if isinstance(node, ast.ClassDef) else []:
            if isinstance(method, ast.FunctionDef) and (
                not method.name.startswith("_") or (special and method.name.endswith("__"))
            ):
                yield Part(f"{node.name}.{method.name}", method, ast.get_docstring(method) or "", text, about)


def functions(tree: ast.Module) -> Iterator[tuple[Part, ast.FunctionDef]]:
    for part in public(tree, special=True):
        if isinstance(part.node, ast.FunctionDef):
            yield part, part.node


def without_docstring(tree: ast.Module) -> list[str]:
    return [part.name for part in public(tree) if part.node.name not in OF_TORCH and not part.own]


def annotations(node: ast.FunctionDef | ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(name, type) of what goes in, by its name, and of what comes out, by the function's; of a class its fields."""
    if isinstance(node, ast.ClassDef):
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                yield field.target.id, TABLE.sub("", ast.unparse(field.annotation))
        return
    for argument in [*node.args.args, *node.args.kwonlyargs, node.args.vararg]:
        if argument is not None and argument.annotation is not None:
            yield argument.arg, TABLE.sub("", ast.unparse(argument.annotation))
    if node.returns is not None:
        yield node.name, TABLE.sub("", ast.unparse(node.returns))


def holds(name: str, words: set[str]) -> bool:
    parts = name.lower().split("_")
    return bool(words & set(parts)) and parts[-1] not in NEITHER - words


def without_shape(tree: ast.Module) -> list[str]:
    return [
        part.name
        for part, node in functions(tree)
        if any(ARRAY.search(kind) for _, kind in annotations(node))
        and node.name not in OF_TORCH
        and not SHAPE.search(part.text)
    ]


def without_range(tree: ast.Module) -> list[str]:
    return [
        f"{part.name}: {what}"
        for part in public(tree, special=True)
        for what, words, said in (("pictures", PICTURES, PICTURE_RANGE), ("masks", MASKS, MASK_RANGE))
        if any(ARRAY.search(kind) and holds(name, words) for name, kind in annotations(part.node))
        and not said.search(part.text)
    ]


def raised(function: ast.FunctionDef) -> set[str]:
    """The project's errors that the body raises by name, functions inside it included."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Raise) and node.exc is not None:
            what = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = what.attr if isinstance(what, ast.Attribute) else getattr(what, "id", "")
            found.add(MAKERS.get(name, name))
    return found & set(ERRORS)


def without_errors(tree: ast.Module) -> list[str]:
    return [
        f"{part.name}: {error}"
        for part, node in functions(tree)
        if node.name not in ENTRIES
        for error in sorted(raised(node))
        if not re.search(rf"\b{error}\b", f"{part.own}\n{part.around}")
    ]


def same(text: str) -> str:
    return " ".join(text.split())


def without_source(tree: ast.Module, sources: dict[str, str], own: set[str]) -> list[str]:
    """What lacks the source it is listed with ("" is the module itself), and what is public and in neither list."""
    parts = {part.name: part for part in public(tree)}
    wrong = [f"{name}: not there any more" for name in sorted((set(sources) | own) - {*parts, ""})]
    for name, source in sources.items():
        text = parts[name].text if name in parts else (ast.get_docstring(tree) or "")
        if same(source) not in same(text):
            wrong.append(f"{name or 'module'}: does not name {source}")
    if "" not in sources:
        wrong += [f"{name}: no source" for name in parts if "." not in name and name not in {*sources, *own}]
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPO)))
def test_public_docstrings(path: Path) -> None:
    name = str(path.relative_to(REPO))
    tree = ast.parse(path.read_text())
    assert not without_docstring(tree), f"{name}: no docstring"
    assert not without_shape(tree), f"{name}: neither shape nor dtype"
    assert not without_range(tree), f"{name}: pictures or masks without the range of their values"
    if not name.startswith("pipeline/cli"):
        assert not without_errors(tree), f"{name}: raises what neither its docstring nor its class's names"


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sources(name: str) -> None:
    wrong = without_source(ast.parse((REPO / name).read_text()), SOURCES[name], set(OWN.get(name, "").split()))
    assert not wrong, f"{name}: source missing; name it in the docstring and in SOURCES, or the thing in OWN"


def test_own_work_is_listed_beside_sources() -> None:
    assert set(OWN) <= set(SOURCES)


def rules(source: str) -> list[list[str]]:
    """What each rule finds in a module of this source."""
    tree = ast.parse(source)
    return [rule(tree) for rule in (without_docstring, without_shape, without_range, without_errors)]


def test_presence_can_fail() -> None:
    assert rules("def bare(x): ...\nclass A:\n    'It.'\n    def b(self): ...") == [["bare", "A.b"], [], [], []]


def test_shapes_can_fail() -> None:
    assert rules("def f(x: Tensor) -> Tensor:\n    'Doubles it.'")[1] == ["f"]
    assert rules("class A:\n    'It.'\n    def __call__(self, x: np.ndarray) -> int: ...")[1] == ["A.__call__"]
    assert rules("def f(x: Tensor) -> Tensor:\n    'Doubles [N, C].'") == [[], [], [], []]


def test_ranges_can_fail() -> None:
    function = "def f(photos: Tensor, head_mask: Tensor) -> Tensor:\n    '{}'"
    said = "Photos [N, 3, H, W]"
    assert rules(function.format(said))[2] == ["f: pictures", "f: masks"]
    # the masks' range says nothing about the photos, and the other way round
    assert rules(function.format(f"{said}, masks in [0, 1]."))[2] == ["f: pictures"]
    assert rules(function.format(f"{said} in [-1, 1]."))[2] == ["f: masks"]
    assert rules(function.format(f"{said} in [-1, 1], masks in [0, 1].")) == [[], [], [], []]
    assert rules("def image(x: int) -> Pictures:\n    'One [H, W, 3].'")[2] == ["image: pictures"]
    assert rules("def image(x: int) -> Pictures:\n    'One uint8 [H, W, 3].'") == [[], [], [], []]
    assert rules("class A:\n    'It.'\n    styled: Tensor")[2] == ["A: pictures"]
    assert rules("class A:\n    'It.'\n    def forward(self, image: Tensor) -> Tensor: ...")[2] == [
        "A.forward: pictures"
    ]


def test_errors_can_fail() -> None:
    body = "\n    raise InputError('no')\n"
    assert rules("'Raises InputError.'\ndef f():\n    'Reads.'" + body)[3] == ["f: InputError"]
    assert rules("def f():\n    'Reads. Raises ModelFileError.'" + body)[3] == ["f: InputError"]
    assert rules("def f():\n    'Reads.'\n    raise errors.ImageError(1, 2, 3) from None")[3] == ["f: ImageError"]
    assert rules("def f():\n    'Reads.'\n    raise from_os_error(e, 'x')")[3] == ["f: StageError"]
    method = "class A:\n    '{}'\n    def __init__(self):\n        raise InputError('no')"
    assert rules(method.format("It."))[3] == ["A.__init__: InputError"]
    assert rules(method.format("It. Raises InputError.")) == [[], [], [], []]
    assert rules("def f():\n    'Reads. Raises InputError.'" + body) == [[], [], [], []]


def test_sources_can_fail() -> None:
    tree = ast.parse("def hinge(): 'Hinge loss (Lim & Ye\\n2017).'\ndef other(): 'Another loss.'")
    assert without_source(tree, {"hinge": "Lim & Ye 2017"}, {"other"}) == []
    assert without_source(tree, {"hinge": "Lim & Ye 2017"}, set()) == ["other: no source"]
    assert without_source(tree, {"hinge": "Mao et al. 2017"}, {"other"}) == ["hinge: does not name Mao et al. 2017"]
    assert without_source(tree, {"": "Lim & Ye 2017"}, set()) == ["module: does not name Lim & Ye 2017"]
    assert without_source(tree, {"hinge": "Lim & Ye 2017"}, {"other", "gone"}) == ["gone: not there any more"]
