import pytest
import torch

from ivm.errors import OptionError
from ivm.training.precision import flush_denormals, uses_bf16


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_what_is_said_is_done(device):
    assert uses_bf16("bf16", device)
    assert not uses_bf16("fp32", device)


@pytest.mark.parametrize(
    ("able", "expected"),
    [({}, False), ({"avx512_vnni": True, "avx512_bf16": False}, False), ({"amx_bf16": True}, True),
     ({"avx512_bf16": True}, True), ({"architecture": "arm64", "bf16": True}, True)],
)  # fmt: skip
def test_auto_asks_the_processor(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    assert uses_bf16("auto", "cpu") is expected


def test_an_older_torch_is_asked_in_its_own_way(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert uses_bf16("auto", "cpu")


def test_auto_asks_the_gpu(monkeypatch):
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert uses_bf16("auto", "cuda") is able


def test_another_word_is_refused():
    with pytest.raises(OptionError, match="auto, bf16 or fp32, but got 'fp8'"):
        uses_bf16("fp8", "cpu")


def test_small_numbers_count_as_nothing_once_flushed():
    small = torch.full((8,), 1e-40)
    try:
        assert (small * 1.0 == small).all()
        flush_denormals()
        assert (small * 1.0 == 0).all()
    finally:
        torch.set_flush_denormal(False)
