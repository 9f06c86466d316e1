"""The mask decoder of a full-size model -> one ONNX file, for a machine that keeps no LMM.

    mask_decoder.onnx    features [B, D, h, w], condition [B, D] -> logits [B, 4h, 4w], found [B]

Whoever has encoded the image and the instruction elsewhere runs it without torch. Only the decoder's weights
are read (of ivm-v1 out of the published 66 MB): the base models are not needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ivm.errors import CheckpointError, ModelError, require
from ivm.models.checkpoint import fit, read_model_config, read_reference, rename_reference
from ivm.models.config import PRESETS, REFERENCE_FILE, fetch_file, locate
from ivm.models.export import FLOAT_LIMIT, Parity, make_folder, write_graph
from ivm.models.full_presets import full_preset, lay_out
from ivm.models.ivm import IVMConfig, IVMModel
from ivm.models.mask_decoder import MaskDecoder

__all__ = ["DECODER_FILE", "export_decoder", "measure_decoder_parity", "read_decoder"]

DECODER_FILE = "mask_decoder.onnx"
"""Name of what is written."""

_PREFIX = "mask_decoder."


class _DecoderGraph(nn.Module):
    def __init__(self, decoder: MaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.decoder(features, condition)
        return logits, logits.flatten(1).amax(dim=1)


def export_decoder(source: str | Path, folder: Path) -> Parity:
    """Write the mask decoder of `source` to folder/mask_decoder.onnx; returns how near it is to torch.

    Computed in float32. The features' grid is fixed, the batch is free. `metadata_props` of the file say what
    is done with the logits: "upsampled" (side of the square that they are brought to before the image's size;
    0: none) and "threshold".

    Args:
        source: as `read_decoder` takes it.
        folder: made if it is not there.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        ModelError: the graph does not compute what the decoder does; nothing is written then. Or as
            `read_decoder`.
        CheckpointError: as `read_decoder`.
        OutputError: the folder cannot be made.
    """
    onnx, _ = require("onnx", "train"), require("onnxscript", "train")
    decoder, config, grid = read_decoder(source)
    make_folder(folder)
    dim = decoder.mask_tokens.embedding_dim
    batch = torch.export.Dim("batch", min=1, max=1024)
    example = (torch.zeros(2, dim, grid, grid), torch.zeros(2, dim))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        file = Path(scratch) / DECODER_FILE
        write_graph(
            _DecoderGraph(decoder),
            example,
            file,
            ["features", "condition"],
            ["logits", "found"],
            ({0: batch}, {0: batch}),
        )
        parity = measure_decoder_parity(decoder, file, grid)
        if not parity.logits <= FLOAT_LIMIT:  # also refuses NaN
            raise ModelError(
                f"the mask decoder's graph must agree with torch within {FLOAT_LIMIT:g}, but {parity}; "
                "nothing is written"
            )
        graph = onnx.load(file)
        about = {"model": Path(source).name, "upsampled": config.upsampled, "threshold": config.threshold}
        onnx.helper.set_model_props(graph, {name: str(value) for name, value in about.items()})
        onnx.save(graph, file)
        file.replace(folder / DECODER_FILE)
    return parity


def read_decoder(source: str | Path) -> tuple[MaskDecoder, IVMConfig, int]:
    """The mask decoder of a full-size model in float32, its configuration, and rows of the features' grid.

    Args:
        source: a folder that IVMModel.save_pretrained or training wrote, "ivm-v1" (whose checkpoint is
            fetched, once), or the published checkpoint's file or folder.

    Raises:
        ModelError: it is another model, or cannot be had.
        CheckpointError: the weights are damaged, or do not fit.
    """
    path = Path(source)
    if path.is_file() or path.suffix == ".bin":
        config, tensors = full_preset("ivm-v1"), _of_reference(path)
    elif str(source) == "ivm-v1":
        preset = PRESETS["ivm-v1"]
        file = fetch_file(preset.hub, REFERENCE_FILE, preset.revision)
        config, tensors = full_preset("ivm-v1"), _of_reference(file)
    else:
        # Of other presets nothing is fetched, for none has weights of this kind.
        kind, folder = (PRESETS[str(source)].kind, path) if str(source) in PRESETS else locate(source)
        if kind not in ("ivm", "ivm-v1"):
            raise ModelError(
                f"{source} must be a full-size model with weights (its folder, ivm-v1, or the file "
                f"{REFERENCE_FILE}) for its mask decoder to be exported, but is of the kind {kind}"
            )
        if kind == "ivm-v1":
            config, tensors = full_preset("ivm-v1"), _of_reference(folder / REFERENCE_FILE)
        else:
            config, tensors = read_model_config(IVMModel, folder), _of_folder(folder)
    laid = lay_out(config)
    decoder = laid.mask_decoder
    wanted = {_PREFIX + name: value for name, value in decoder.state_dict().items()}
    fit(wanted, tensors, str(source))
    state = {name.removeprefix(_PREFIX): value.float() for name, value in tensors.items()}
    decoder.load_state_dict(state, assign=True)  # nothing is left on the meta device
    return decoder.eval(), config, laid.pixel_side // 16


def _of_reference(file: Path) -> dict[str, Tensor]:
    return _decoders(rename_reference(read_reference(file)))


def _of_folder(folder: Path) -> dict[str, Tensor]:
    """From model.safetensors, or its shards, without reading the rest."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} must hold the weights as model.safetensors, but has no such file")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                names = [name for name in opened.keys() if name.startswith(_PREFIX)]  # noqa: SIM118
                tensors |= {name: opened.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} cannot be read as safetensors: {error}") from error
    return tensors


def _decoders(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith(_PREFIX)}


def measure_decoder_parity(decoder: MaskDecoder, file: Path, grid: int) -> Parity:
    """Compare a graph with the decoder that it comes from, on made-up features and conditions.

    Three of them at once and one alone, the same at every call.

    Args:
        decoder: in float32.
        file: of `export_decoder`.
        grid: rows and columns of the features.
    """
    import onnxruntime

    random, dim = torch.Generator().manual_seed(0), decoder.mask_tokens.embedding_dim
    features = torch.randn(4, dim, grid, grid, generator=random)
    condition = torch.randn(4, dim, generator=random)
    with torch.no_grad():
        logits, found = _DecoderGraph(decoder)(features, condition)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    answers = [
        session.run(None, {"features": features[part].numpy(), "condition": condition[part].numpy()})
        for part in (slice(0, 3), slice(3, 4))
    ]
    theirs, theirs_found = (torch.cat([torch.from_numpy(answer[k]) for answer in answers]) for k in range(2))
    return Parity(
        logits=float((logits - theirs).abs().max() / logits.abs().max().clamp(min=1.0)),
        heatmap=float((logits.sigmoid() - theirs.sigmoid()).abs().mean()),
        found=float((found.sigmoid() - theirs_found.sigmoid()).abs().mean()),
    )
