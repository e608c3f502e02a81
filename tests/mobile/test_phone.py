"""docs/phone.md: its C++ compiles and follows the sidecar; the adb script fails in clear lines without a phone."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]

# Just what the snippet uses. "Running" the stand-in gives styled = -image and mask = green / 2 + 0.5.
HEADER = """
#pragma once
#include <map>
#include <string>
#include <vector>
enum MNNForwardType { MNN_FORWARD_CPU = 0 };
namespace MNN {
struct Session {};
struct ScheduleConfig { MNNForwardType type; int numThread; };
class Tensor {
public:
    enum DimensionType { TENSORFLOW, CAFFE, CAFFE_C4 };
    Tensor() {}
    Tensor(const Tensor* other, DimensionType) : data(other->data.size()) {}
    template <typename T> T* host() const { return (T*)data.data(); }
    bool copyFromHostTensor(const Tensor* host) { data = host->data; return true; }
    bool copyToHostTensor(Tensor* host) const { host->data = data; return true; }
    std::vector<float> data;
};
class Interpreter {
public:
    static Interpreter* createFromFile(const char*) { return new Interpreter; }
    Session* createSession(const ScheduleConfig&) { return &session; }
    Tensor* getSessionInput(const Session*, const char* name) { return &tensors[name]; }
    Tensor* getSessionOutput(const Session*, const char* name) { return &tensors[name]; }
    void resizeTensor(Tensor* tensor, const std::vector<int>& s) { tensor->data.resize(s[0] * s[1] * s[2] * s[3]); }
    void resizeSession(Session*) {}
    int runSession(Session*) const {
        auto& image = tensors["image"].data;
        int pixels = image.size() / 3;
        tensors["styled"].data = image;
        for (float& v : tensors["styled"].data) v = -v;
        tensors["mask"].data.assign(image.begin() + pixels, image.begin() + 2 * pixels);
        for (float& v : tensors["mask"].data) v = v / 2 + 0.5f;
        return 0;
    }
    Session session;
    mutable std::map<std::string, Tensor> tensors;
};
}
"""
MAIN = """
#include <cstdio>
int main() {
    const int n = 16;
    std::vector<uint8_t> rgb(n * n * 3), styled(n * n * 3);
    std::vector<float> mask(n * n);
    fread(rgb.data(), 1, rgb.size(), stdin);
    FaceStylizer("m.mnn", n, 2).run(rgb.data(), styled.data(), mask.data());
    fwrite(styled.data(), 1, styled.size(), stdout);
    fwrite(mask.data(), 4, mask.size(), stdout);
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_snippet_compiles_and_converts_as_the_sidecar_says(tmp_path: Path) -> None:
    block = re.search(r"```cpp\n(.*?)```", (REPO / "docs/phone.md").read_text(), re.DOTALL)
    assert block
    (tmp_path / "MNN").mkdir()
    for name in ("Interpreter.hpp", "Tensor.hpp"):
        (tmp_path / "MNN" / name).write_text(HEADER)
    (tmp_path / "a.cpp").write_text(block.group(1).replace("#include <MNN/Tensor.hpp>", "") + MAIN)
    subprocess.run(["g++", "-std=c++14", "-Wall", "-I.", "a.cpp", "-o", "a"], cwd=tmp_path, check=True)
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    out = subprocess.run(["./a"], input=rgb.tobytes(), capture_output=True, cwd=tmp_path, check=True).stdout
    styled = np.frombuffer(out[: rgb.size], np.uint8).reshape(rgb.shape)
    mask = np.frombuffer(out[rgb.size :], np.float32).reshape(16, 16)
    assert np.abs(styled.astype(int) - (255 - rgb.astype(int))).max() <= 1
    assert np.allclose(mask, rgb[..., 1] / 255, atol=1e-5)


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["a.mnn", "build"], (2, 3))])
def test_script_says_what_is_missing(tmp_path: Path, arguments: list[str], code: object) -> None:
    done = subprocess.run(
        ["bash", str(REPO / "scripts/phone_bench.sh"), *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode in (code if isinstance(code, tuple) else (code,)) and done.stderr.strip()
