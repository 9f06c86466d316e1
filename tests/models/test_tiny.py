import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from safetensors.torch import load_file  # noqa: E402

from ivm.errors import OptionError  # noqa: E402
from ivm.models.tiny import write_tiny  # noqa: E402


def test_the_same_weights_are_written_every_time(tmp_path):
    for name in ("a", "b"):
        torch.rand(1)
        before = torch.random.get_rng_state()
        write_tiny(tmp_path / name)
        assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's numbers change
    for part in ("lmm", "image"):
        a, b = (load_file(tmp_path / name / part / "model.safetensors") for name in ("a", "b"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_is_not_there_is_refused(tmp_path):
    for wish in ({"lmm": "gpt"}, {"image": "vit"}):
        with pytest.raises(OptionError, match="tiny needs an LMM of llava, qwen3_vl, smolvlm"):
            write_tiny(tmp_path, **wish)
