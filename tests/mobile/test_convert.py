"""Which layers get 8-bit weights."""

import json
from pathlib import Path

from stages.mobile.convert import spare_small_layers


def test_only_large_pointwise_layers_are_quantised(tmp_path: Path) -> None:
    shapes = {"stem": (3, 16, 3), "depthwise": (96, 96, 3), "few": (16, 48, 1), "many": (48, 96, 1)}
    layers = [
        {
            "name": name,
            "conv": {"inputChannel": inputs, "outputChannel": outputs, "kernelSize": [kernel, kernel]},
            "weight": [{"bits": 8}],
        }
        for name, (inputs, outputs, kernel) in shapes.items()
    ]
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"algo": [{"quantParams": {"layer": layers}}]}))
    spare_small_layers(path)
    after = json.loads(path.read_text())["algo"][0]["quantParams"]["layer"]
    assert {layer["name"]: layer["weight"][0]["bits"] for layer in after} == {
        "stem": 0, "depthwise": 0, "few": 0, "many": 8,
    }  # fmt: skip
