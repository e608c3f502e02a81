"""Face recognition embeddings: the mobilefacenet ONNX file's weights run as a differentiable torch module.

The network is MobileFaceNet (Chen et al. 2018); it expects faces in ArcFace's template (Deng et al. 2019).
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.common.errors import ModelFileError
from stages.common.weights import find

INPUT_SIDE = 112
# The network expects eyes and mouth where ArcFace's template has them. Shares of the FFHQ-aligned picture's side, found
# on the London pairs (neutral against smiling picture of 82 people, 64 px): rank 1 right for all 82, own and others'
# pairs 8.9 standard deviations apart; side 0.95 gives 6.4, centre at 0.56 gives 5.3, BGR instead of RGB 8.2.
CROP_SIDE = 0.73
CROP_CENTRE = (0.5, 0.52)


class OnnxNet(nn.Module):
    """An ONNX graph of convolutions, clips, additions, ReLUs and one reshape to vectors, as torch operations.

    ``forward`` takes float32 [N, 3, 112, 112] in [-1, 1] and returns the graph's output, [N, F].

    Raises:
        ModelFileError: an operation or a padding that is not mobilefacenet's.
    """

    def __init__(self, graph: Any, path: Path) -> None:
        super().__init__()
        from onnx import helper, numpy_helper

        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._steps: list[tuple[str, tuple[str, ...], str, dict[str, Any]]] = []
        self.convs = nn.ParameterDict()
        for node in graph.node:
            values = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type == "Constant":
                constants[node.output[0]] = numpy_helper.to_array(values["value"])
                continue
            options: dict[str, Any] = {}
            if node.op_type == "Conv":
                options = _conv_options(values, path)
                for role, name in zip(("weight", "bias"), node.input[1:], strict=False):
                    # a copy: arrays read from the file cannot be written to
                    self.convs[f"{node.output[0]}_{role}"] = nn.Parameter(torch.tensor(constants[name]))
            elif node.op_type == "Clip":
                options = {"min": float(constants[node.input[1]]), "max": float(constants[node.input[2]])}
            elif node.op_type not in ("Add", "Relu", "Reshape"):
                raise ModelFileError(f"{path}: operation {node.op_type} is not one of mobilefacenet's")
            self._steps.append((node.op_type, tuple(node.input), node.output[0], options))
        self.requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        values = {self._input: x}
        for operation, inputs, output, options in self._steps:
            first = values[inputs[0]]
            if operation == "Conv":
                bias = self.convs.get(f"{output}_bias", None)
                values[output] = F.conv2d(first, self.convs[f"{output}_weight"], bias, **options)
            elif operation == "Add":
                values[output] = first + values[inputs[1]]
            elif operation == "Reshape":
                values[output] = first.flatten(1)
            else:
                values[output] = F.relu(first) if operation == "Relu" else first.clamp(**options)
        return values[self._output]


def _conv_options(values: dict[str, Any], path: Path) -> dict[str, Any]:
    pads = values.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        raise ModelFileError(f"{path}: asymmetric padding {pads} is not mobilefacenet's")
    return {"stride": tuple(values["strides"]), "padding": tuple(pads[:2]), "groups": values["group"]}


class FaceEmbedder(nn.Module):
    """Aligned faces to embeddings whose scalar product says how alike two people are.

    ``name`` goes beside every figure made with it. Frozen; gradients flow to the pictures.
    """

    name = "mobilefacenet"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """FFHQ-aligned pictures [N, 3, H, W] in [-1, 1], any square size, to unit vectors [N, 128]."""
        return F.normalize(self.net(face_crop(images.float())).float(), dim=1)


def face_crop(images: Tensor, side: float = CROP_SIDE, centre: tuple[float, float] = CROP_CENTRE) -> Tensor:
    """The part of an FFHQ-aligned picture that the recogniser looks at, bilinear to [N, 3, 112, 112].

    It puts eyes and mouth about where ArcFace's template (Deng et al. 2019) has them.

    Args:
        images: [N, 3, H, W], square, of any range; the range is kept.
        side: of the crop, as a share of the picture.
        centre: (x, y) of the crop, as shares.
    """
    scale = images.new_tensor([[side, 0, 2 * centre[0] - 1], [0, side, 2 * centre[1] - 1]])
    where = F.affine_grid(
        scale.expand(len(images), 2, 3), [len(images), 3, INPUT_SIDE, INPUT_SIDE], align_corners=False
    )
    if side * images.shape[-1] > INPUT_SIDE:  # shrinking: average first, bilinear alone would alias
        factor = side * images.shape[-1] / INPUT_SIDE
        target = max(INPUT_SIDE, round(images.shape[-1] / factor))
        images = F.interpolate(images, (target, target), mode="area")
    return F.grid_sample(images, where, mode="bilinear", padding_mode="reflection", align_corners=False)


def load_embedder(root: Path | None = None) -> FaceEmbedder | None:
    """The face embedder, or None where nobody put ``mobilefacenet_112.onnx``.

    Raises:
        ModelFileError: the file is there but is not that network.
    """
    path = find("mobilefacenet", root)
    if path is None:
        return None
    import onnx

    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's DecodeError and others
        raise ModelFileError(f"{path}: not a readable ONNX file ({error})") from error
    try:
        return FaceEmbedder(OnnxNet(graph, path))
    except (KeyError, IndexError, TypeError) as error:
        raise ModelFileError(f"{path}: not mobilefacenet's graph ({error!r})") from error
