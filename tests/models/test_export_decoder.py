"""The mask decoder as ONNX, against the torch model it comes from."""

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import onnxruntime  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from ivm.cli import app  # noqa: E402
from ivm.errors import CheckpointError, ModelError, OutputError  # noqa: E402
from ivm.models import export_decoder as module  # noqa: E402
from ivm.models.export import Parity  # noqa: E402
from ivm.models.export_decoder import DECODER_FILE, export_decoder, measure_decoder_parity, read_decoder  # noqa: E402
from ivm.models.full import FullModel  # noqa: E402
from models.test_checkpoint import reference_state  # noqa: E402

PICTURE = np.kron(np.random.default_rng(4).integers(0, 256, (4, 4, 3)), np.ones((20, 25, 1))).astype(np.uint8)


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    """(result of `ivm export`, folder it wrote)."""
    folder = tmp_path_factory.mktemp("onnx") / "new" / "folder"
    done = CliRunner().invoke(app, ["export", str(tiny_folder), "-o", str(folder)])
    assert done.exit_code == 0, done.output
    return done, folder


@pytest.fixture
def no_exporter(monkeypatch, exported):
    """The exporter takes seconds: what it wrote once is what it writes."""

    def copy_graph(graph, inputs, file, *names):
        shutil.copy(exported[1] / DECODER_FILE, file)

    monkeypatch.setattr(module, "write_graph", copy_graph)


def run(folder, **inputs):
    session = onnxruntime.InferenceSession(folder / DECODER_FILE, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


@pytest.mark.filterwarnings("ignore")
def test_the_command_writes_one_file_and_says_how_near_it_is(exported, tiny_folder):
    done, folder = exported
    assert [path.name for path in folder.iterdir()] == [DECODER_FILE]
    assert "logits differ by at most" in done.stdout
    assert str(folder / DECODER_FILE) in done.stdout.replace("\n", "")
    props = {one.key: one.value for one in onnx.load(folder / DECODER_FILE).metadata_props}
    assert props == {"model": tiny_folder.name, "upsampled": "0", "threshold": "0.5"}


@pytest.mark.filterwarnings("ignore")
def test_it_answers_as_the_whole_model_does(exported, tiny_folder):
    """From what the model makes of a real picture and instruction, for any number of pairs."""
    backend = FullModel(tiny_folder, device="cpu")
    (features,) = backend.encode_images([PICTURE])
    texts = ["the red cup", "a plate", "what time is it?", "all", "5"]
    expected, found = backend.decode([features] * 5, texts)
    assert expected.std() > 0.1
    condition = backend.conditions([features] * 5, texts)
    seen = features.features[None].numpy().repeat(5, axis=0)
    logits, largest = run(exported[1], features=seen, condition=condition)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-largest)), found, atol=1e-5)
    one, _ = run(exported[1], features=seen[:1], condition=condition[:1])
    np.testing.assert_allclose(one, expected[:1], atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_parity_sees_other_weights(exported, tiny_folder):
    decoder, _, grid = read_decoder(tiny_folder)
    assert grid == 4
    file = exported[1] / DECODER_FILE
    same = measure_decoder_parity(decoder, file, grid)
    assert same.logits < 1e-5
    assert same.found < 1e-5
    with torch.no_grad():
        decoder.mask_tokens.weight.mul_(1.01)
    assert measure_decoder_parity(decoder, file, grid).logits > 1e-4


@pytest.mark.parametrize("off", [1e-3, float("nan")])
def test_a_graph_that_computes_something_else_is_not_written(
    tiny_folder, tmp_path, monkeypatch, no_exporter, off
):
    monkeypatch.setattr(module, "measure_decoder_parity", lambda *_: Parity(off, 0, 0))
    with pytest.raises(ModelError, match=r"must agree with torch within 0.0001, .*; nothing is written"):
        export_decoder(tiny_folder, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_published_checkpoint_and_a_whole_folder_give_the_same_decoder(
    tiny_model, tiny_folder, tmp_path, monkeypatch
):
    model = tiny_model()
    expected = load_file(tiny_folder / "model.safetensors")
    torch.save(reference_state(model), tmp_path / "IVM-V1.0.bin")
    monkeypatch.setattr(module, "full_preset", lambda name: model.config)
    model.save_pretrained(tmp_path / "whole", whole=True, max_shard_size="100KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    for source in (tmp_path / "IVM-V1.0.bin", tmp_path, tmp_path / "whole"):
        decoder, config, _ = read_decoder(source)
        for name, value in decoder.state_dict().items():
            assert torch.equal(value, expected[f"mask_decoder.{name}"]), name
        assert config.threshold == model.config.threshold


def test_weights_in_half_precision_are_computed_in_float32(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    halves = {name: value.bfloat16() for name, value in load_file(file).items()}
    save_file(halves, file, {"format": "pt"})
    decoder, _, _ = read_decoder(tmp_path / "half")
    assert {value.dtype for value in decoder.state_dict().values()} == {torch.float32}


def test_no_base_model_is_read(tiny_folder, tmp_path):
    shutil.copytree(tiny_folder, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"image_base": "not/here", "lmm_base": "not/here"}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    decoder, _, _ = read_decoder(tmp_path / "m")
    assert decoder.mask_tokens.embedding_dim == 16


def change(folder, edit):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("mask_decoder.mask_tokens.weight"), "lacks mask_decoder.mask_tokens.weight"),
        (
            lambda t: t.update({"mask_decoder.extra": torch.zeros(1)}),
            "has mask_decoder.extra besides",
        ),
        (
            lambda t: t.update({"mask_decoder.mask_tokens.weight": torch.zeros(1, 8)}),
            r"mask_tokens.weight as \[1, 8\] instead of \[1, 16\]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_listed(tiny_folder, tmp_path, edit, message):
    shutil.copytree(tiny_folder, tmp_path / "m")
    change(tmp_path / "m", edit)
    with pytest.raises(CheckpointError, match=message):
        read_decoder(tmp_path / "m")


def test_what_is_no_full_size_model_is_refused(tiny_folder, tmp_path):
    for name in ("compact", "clipseg", "ivm-smolvlm-256m-sam2"):  # and nothing is fetched
        with pytest.raises(ModelError, match=f"{name} must be a full-size model with weights"):
            read_decoder(name)
    with pytest.raises(CheckpointError, match=r"nowhere\.bin cannot be read as a checkpoint of tensors"):
        read_decoder(tmp_path / "nowhere.bin")
    shutil.copytree(tiny_folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_decoder(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"must hold the weights as model\.safetensors"):
        read_decoder(tmp_path / "m")


def test_the_published_checkpoint_is_fetched(tiny_model, tmp_path, monkeypatch):
    model = tiny_model()
    torch.save(reference_state(model), tmp_path / "IVM-V1.0.bin")
    asked = []

    def fetched(*wanted):
        asked.append(wanted)
        return tmp_path / "IVM-V1.0.bin"

    monkeypatch.setattr(module, "fetch_file", fetched)
    monkeypatch.setattr(module, "full_preset", lambda name: model.config)
    decoder, _, _ = read_decoder("ivm-v1")
    assert torch.equal(decoder.mask_tokens.weight, model.mask_decoder.mask_tokens.weight)
    assert asked == [("2toINF/IVM", "IVM-V1.0.bin", "main")]


def test_a_folder_that_cannot_be_made_is_told(tiny_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_decoder(tiny_folder, tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compact"], "must be a full-size model with weights"),
        (["gone.bin"], "gone.bin cannot be read as a checkpoint"),
        (["runs/gone"], "must be a .safetensors file or the folder of a run"),
    ],
)
def test_the_command_tells_what_is_wrong_in_a_sentence(tmp_path, words, message):
    done = CliRunner().invoke(app, ["export", *words, "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert message in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()
