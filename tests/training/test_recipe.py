import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

from ivm.errors import (  # noqa: E402
    CheckpointError,
    DataError,
    IVMError,
    MissingExtraError,
    OptionError,
    TrainingError,
)
from ivm.training import recipe  # noqa: E402
from ivm.training.recipe import assemble, export, train  # noqa: E402
from training.conftest import boxes, write_store  # noqa: E402


def quiet(line):
    pass


def equal(a, b):
    a, b = load_file(a), load_file(b)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def log_of(config):
    lines = Path(config.folder, "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


class KillError(Exception):
    pass


def kill_at(step):
    """A `say` that dies at a step, as a machine does."""

    def say(line):
        if line.startswith(f"step {step}/"):
            raise KillError

    return say


@pytest.fixture
def judged(configure, stores):
    """configure(...) of a generator weighted by a trained discriminator, with validation, and dropout of LoRA
    to make the random state matter."""
    asked = configure("discriminator", "optimise.steps=4", "save_every=9", folder="d")
    train(asked, quiet)

    def make(folder, *more):
        return configure(
            "generator", "loss.weights=dwsl", f"loss.discriminator={asked.folder}", "data.workers=1",
            f"data.validation=['{stores['val']}']", "lora.rank=2", "lora.targets=['qkv']", "lora.dropout=0.3",
            "lora.also=['mask_token', 'hyper.*']", "optimise.precision=bf16", *more, folder=folder,
        )  # fmt: skip

    return make


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(judged):
    whole, parts = judged("whole"), judged("parts")
    train(whole, quiet)
    with pytest.raises(KillError):
        train(parts, kill_at(6))  # after the checkpoint of step 4
    torch.manual_seed(77)  # what is in memory must not matter
    outcome = train(parts, quiet)
    assert outcome.finished
    for name in ("last.safetensors", "best.safetensors", "step-000008/average.safetensors"):
        assert equal(f"{whole.folder}/{name}", f"{parts.folder}/{name}"), name
    timeless = [
        [{key: value for key, value in line.items() if key != "samples_per_s"} for line in log_of(config)]
        for config in (whole, parts)
    ]
    assert timeless[0] == timeless[1]  # none lost, none twice
    assert [line["step"] for line in timeless[0]] == [2, 4, 4, 6, 8, 8]


def test_stopped_by_a_signal_it_saves_and_goes_on(configure):
    """Ctrl-C in a terminal reaches the workers, too."""
    psutil = pytest.importorskip("psutil")
    whole, parts = configure(folder="whole"), configure("generator", "data.workers=2", folder="parts")
    train(whole, quiet)

    def interrupt(line):
        if line.startswith("step 2/"):
            for process in (*psutil.Process().children(), psutil.Process()):
                process.send_signal(signal.SIGINT)

    said = []
    outcome = train(parts, lambda line: (said.append(line), interrupt(line)))
    assert (outcome.step, outcome.finished, outcome.model) == (3, False, None)
    assert "stopped at step 3 and saved" in said[-1]
    assert train(parts, said.append).finished
    assert "going on from step 3" in said
    assert equal(f"{whole.folder}/last.safetensors", f"{parts.folder}/last.safetensors")


@pytest.mark.parametrize(
    "options", [["optimise.freeze=['conv2.*']"], ["lora.rank=2", "lora.targets=['qkv']"]]
)
def test_what_began_from_weights_with_a_part_frozen_goes_on(configure, options):
    base = configure(folder="base")
    train(base, quiet)
    runs = [configure("generator", f"init={base.folder}", *options, folder=name) for name in ("a", "b")]
    train(runs[0], quiet)
    with pytest.raises(KillError):
        train(runs[1], kill_at(6))
    assert train(runs[1], quiet).finished
    assert equal(*(f"{one.folder}/last.safetensors" for one in runs))


def test_decay_and_betas_may_change_on_the_way(configure, monkeypatch):
    with pytest.raises(KillError):
        train(configure(), kill_at(6))
    seen = []
    real = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        seen.append([(group["weight_decay"], tuple(group["betas"])) for group in self.param_groups])
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(configure("generator", "optimise.weight_decay=0.5", "optimise.betas=[0.8, 0.9]"), quiet)
    assert len(seen) == 4
    assert all(groups == [(0.5, (0.8, 0.9)), (0.0, (0.8, 0.9))] for groups in seen)


def test_stopping_does_not_look_for_the_best_where_no_other_run_would(configure, stores):
    options = ("save_every=4", f"data.validation=['{stores['human']}']")
    config = configure("generator", *options)

    def interrupt(line):
        if line.startswith("step 6/"):
            signal.raise_signal(signal.SIGINT)

    assert not train(config, interrupt).finished
    train(config, quiet)
    assert [line["step"] for line in log_of(config) if "validation_giou" in line] == [4, 8]


def test_it_learns_and_validates_and_keeps_the_best(configure, stores):
    config = configure(
        "generator", "optimise.steps=60", "save_every=20", "data.human_share=1",
        f"data.stores=['{stores['human']}']", f"data.validation=['{stores['human']}']",
        "optimise.average=0.9",
    )  # fmt: skip
    train(config, quiet)
    rows = log_of(config)
    losses = [line["loss"] for line in rows if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    scores = {line["step"]: line["validation_giou"] for line in rows if "validation_giou" in line}
    state = json.loads(Path(config.folder, "state.json").read_text())
    assert list(scores) == [20, 40, 60]
    assert scores[state["best"]["step"]] == max(scores.values()) > 0.1


def test_a_discriminator_learns_to_tell_wrong_annotations(configure, stores):
    config = configure(
        "discriminator", "optimise.steps=240", "save_every=240", "report_every=120", "optimise.batch_size=24",
        f"data.validation=['{stores['human']}', '{stores['machine']}']", "augment.flip=0", "augment.colour=0",
        "optimise.learning_rate=0.004",
    )  # fmt: skip
    train(config, quiet)
    assert log_of(config)[-1]["validation_auroc"] > 0.8


def test_accumulated_parts_give_the_step_of_the_whole_batch(configure):
    runs = [configure("generator", f"optimise.accumulate={n}", folder=f"a{n}") for n in (1, 4)]
    for config in runs:
        train(config, quiet)
    one, four = (load_file(f"{config.folder}/last.safetensors") for config in runs)
    for name in one:
        torch.testing.assert_close(one[name], four[name], atol=2e-5, rtol=1e-3)


def test_weights_of_the_discriminator_reach_the_loss(configure, judged, stores, tmp_path):
    """With human weights it does not matter what machine annotations mark: theirs is 0."""
    wrong, right = stores["machine"], write_store(tmp_path / "right", boxes(1, False, 24, "expert"))
    ends = []
    for store in (wrong, right):
        name = f"of-{store.name}"
        stores_ = f"data.stores=['{stores['human']}', '{store}']"
        config = configure("generator", stores_, "loss.weights=human", folder=name)
        train(config, quiet)
        ends.append(load_file(f"{config.folder}/last.safetensors"))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    weighted = judged("weighted", "save_every=8")
    train(weighted, quiet)
    weights = [line["weight"] for line in log_of(weighted) if "weight" in line]
    assert all(0.1 <= weight <= 0.9 for weight in weights)


def test_a_student_of_a_teacher_alone_does_not_look_at_annotations(configure, stores, tmp_path):
    """The teacher is wider and sees larger views; two label sets of the same photos give one student."""
    base = configure("generator", "model.sizes.dim=48", "model.image_size=64", folder="teacher")
    train(base, quiet)
    ends = {}
    for name, wrong in (("right", False), ("wrong", True)):
        store = write_store(tmp_path / name, boxes(1, True, 24, "one", wrong=wrong))
        for share in (1.0, 0.5):
            config = configure(
                "generator", f"data.stores=['{store}']", "data.human_share=1", f"loss.teacher={base.folder}",
                f"loss.teacher_share={share}", folder=f"{name}-{share:g}",
            )  # fmt: skip
            train(config, quiet)
            ends[name, share] = load_file(f"{config.folder}/last.safetensors")
            assert all(line["teacher"] > 0 for line in log_of(config) if "loss" in line)

    def equal(share):
        return all(
            torch.equal(ends["right", share][key], ends["wrong", share][key]) for key in ends["right", 1]
        )

    assert equal(1.0)
    assert not equal(0.5)


def test_views_are_as_large_as_the_largest_model_takes_them(configure):
    judge = configure("discriminator", "model.image_size=64", "optimise.steps=2", folder="d")
    train(judge, quiet)
    config = configure("generator", "loss.weights=dwsl", f"loss.discriminator={judge.folder}")
    assert assemble(config).size == 64


def test_a_student_comes_nearer_to_its_teacher(configure, stores, tmp_path):
    base = configure(folder="teacher")
    train(base, quiet)
    config = configure(
        "generator", f"loss.teacher={base.folder}", "loss.teacher_share=1", "seed=3", "optimise.steps=40",
        "save_every=40", "report_every=10", folder="student",
    )  # fmt: skip
    models = assemble(config)
    assert not any(value.requires_grad for value in models.teacher.module.parameters())
    assert models.teacher.module not in models.trainee.module.modules()
    train(config, quiet)
    costs = [line["teacher"] for line in log_of(config) if "teacher" in line]
    assert costs[-1] < costs[0] - 0.05
    judge = configure("discriminator", folder="d")
    train(judge, quiet)
    with pytest.raises(CheckpointError, match=r"must hold a generator .* but holds discriminator"):
        assemble(configure("generator", f"loss.teacher={judge.folder}"))


def test_lora_trains_little_and_ends_in_plain_weights(configure):
    base = configure(folder="base")
    train(base, quiet)
    config = configure(
        "generator", "lora.rank=2", "lora.targets=['qkv']", "optimise.average=0", f"init={base.folder}",
        folder="lora",
    )  # fmt: skip
    module = assemble(config)[0].module
    trained = [name for name, value in module.named_parameters() if value.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    train(config, quiet)
    before, after = (load_file(f"{one.folder}/last.safetensors") for one in (base, config))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("qkv.weight")}
    assert before.keys() == after.keys()


def test_frozen_parameters_stay_and_a_pattern_must_match(configure):
    config = configure("generator", "optimise.freeze=['image_blocks.*', 'conv2.*']", "optimise.average=0")
    start = {key: value.clone() for key, value in assemble(config)[0].module.state_dict().items()}
    train(config, quiet)
    last = load_file(f"{config.folder}/last.safetensors")
    for name in last:
        assert torch.equal(start[name], last[name]) == name.startswith(("image_blocks.", "conv2.")), name
    with pytest.raises(OptionError, match=r"no parameter is called 'image_block\.\*'.*mean image_blocks"):
        assemble(configure("generator", "optimise.freeze=['image_block.*']"))
    with pytest.raises(OptionError, match="did you mean qkv"):
        assemble(configure("generator", "lora.rank=2", "lora.targets=['qvk']"))
    with pytest.raises(OptionError, match="nothing to train"):
        assemble(configure("generator", "optimise.freeze=['*']"))


def test_what_is_not_finite_stops_it_and_the_last_good_state_stays(configure):
    good = configure("generator", "optimise.steps=4")
    train(good, quiet)
    bad = replace(good, optimise=replace(good.optimise, steps=8, learning_rate=1e30))
    with pytest.raises(TrainingError, match="not finite at step 6: the checkpoint of step 4 is whole; lower"):
        train(bad, quiet)
    better = replace(good, optimise=replace(good.optimise, steps=8))
    assert train(better, quiet).finished
    assert all(torch.isfinite(v).all() for v in load_file(f"{good.folder}/last.safetensors").values())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes")
def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(configure):
    """A limit on the size of files stands for the full disk: writing fails in the same calls."""
    import resource

    config = configure()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(line):
        if line.startswith("step 6/"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    try:
        with pytest.raises(TrainingError, match=r"cannot write the checkpoint of step 8.*of step 4 is whole"):
            train(config, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in Path(config.folder).iterdir()) == [
        ".running",
        "last.safetensors",
        "log.jsonl",
        "state.json",
        "step-000004",
    ]
    assert train(config, quiet).finished


def test_a_shard_gone_in_the_middle_is_told_and_the_run_goes_on_when_it_is_back(configure, stores, tmp_path):
    whole, config = configure(folder="whole"), configure(folder="parts")
    train(whole, quiet)
    shard = next(iter(sorted(stores["human"].glob("*.tar"))))

    def lose(line):
        if line.startswith("step 4/"):
            for path in stores["human"].glob("*.tar"):
                path.rename(tmp_path / path.name)

    # The loader has no file open that it has not read from yet: with one open at a time all others are lost.
    from ivm.data import stream

    make = stream.ShardReader.__init__
    stream.ShardReader.__init__ = lambda self, folder, open_shards=1: make(self, folder, 1)
    try:
        with pytest.raises(TrainingError, match=r"cannot read .*\.tar.*once it is back"):
            train(config, lose)
    finally:
        stream.ShardReader.__init__ = make
    for path in tmp_path.glob("shard-*.tar"):
        path.rename(shard.parent / path.name)
    assert train(config, quiet).finished
    assert equal(f"{whole.folder}/last.safetensors", f"{config.folder}/last.safetensors")


def test_an_empty_human_set_is_told_before_anything_is_built(configure, stores, monkeypatch):
    monkeypatch.setattr(recipe, "assemble", lambda *_: pytest.fail("must not be built"))
    with pytest.raises(DataError, match="human annotations is empty"):
        train(configure("generator", f"data.stores=['{stores['machine']}']"), quiet)


def test_warm_restart_and_checkpoints_of_another_architecture(configure):
    base = configure(folder="base")
    train(base, quiet)
    warm = configure("generator", f"init={base.folder}", folder="warm")
    module = assemble(warm)[0].module
    last = load_file(f"{base.folder}/last.safetensors")
    assert all(torch.equal(value, last[name]) for name, value in module.state_dict().items())
    with pytest.raises(CheckpointError, match="of another architecture: dim is 48 but 32 there"):
        assemble(configure("generator", f"init={base.folder}", "model.sizes.dim=48", folder="other"))
    with pytest.raises(CheckpointError, match=r"must hold a discriminator .* but holds generator"):
        assemble(configure("generator", "loss.weights=dwsl", f"loss.discriminator={base.folder}"))
    with pytest.raises(
        TrainingError, match=r"holds another run: stage is 'discriminator' but was 'generator'"
    ):
        train(configure("discriminator", folder="base"), quiet)
    with pytest.raises(TrainingError, match=r"holds another run: seed is 5 but was 0"):
        train(configure("generator", "seed=5", folder="base"), quiet)
    with pytest.raises(TrainingError, match="a run of 8 steps already"):
        train(configure("generator", "optimise.steps=5", folder="base"), quiet)


def test_a_discriminator_starts_from_a_generator(configure):
    base = configure(folder="base")
    train(base, quiet)
    judge = assemble(configure("discriminator", f"init={base.folder}"))[0].module
    last = load_file(f"{base.folder}/last.safetensors")
    shared = set(last) & set(judge.state_dict())
    assert {"conv2.weight", "mask_token", "fusion_blocks.0.cross_q.weight"} <= shared
    assert all(torch.equal(judge.state_dict()[name], last[name]) for name in shared)
    for other, told in (("dim=48", "dim is 48 but 32 there"), ("heads=2", "heads is 2 but 4 there")):
        with pytest.raises(CheckpointError, match=f"of another architecture: {told}"):
            assemble(configure("discriminator", f"init={base.folder}", f"model.sizes.{other}"))


def test_a_finished_run_says_so_again_without_a_step(configure):
    config = configure()
    train(config, quiet)
    before = log_of(config)
    assert train(config, quiet).finished
    assert log_of(config) == before


@pytest.mark.parametrize("error", [IVMError("no ONNX"), KillError(), OSError(28, "No space left on device")])
def test_an_export_that_fails_is_made_up_for_by_the_same_command(configure, monkeypatch, error):
    from ivm.training import compact

    def fail(module, tokenizer, folder):
        folder.mkdir()
        (folder / "image.onnx").write_text("half")
        raise error

    def fails(config):
        with monkeypatch.context() as patch:
            patch.setattr(compact, "export_compact", fail)
            with pytest.raises((IVMError, KillError)):
                train(config, quiet)

    config = configure("generator", "optimise.steps=4")
    fails(config)
    model = Path(config.folder, "model")
    assert not model.exists()
    model.mkdir()  # as an earlier version left it
    assert train(config, quiet).model == model
    assert [path.name for path in model.iterdir()] == ["config.json"]
    fails(more := replace(config, optimise=replace(config.optimise, steps=6)))
    assert (model / "config.json").is_file()  # the one before
    said = []
    train(more, said.append)
    assert any("exporting" in line for line in said)


@pytest.mark.slow
def test_a_trained_generator_is_loaded_by_name_of_its_folder(configure, monkeypatch, stores):
    import ivm
    from ivm.data.stream import ShardSet
    from ivm.models.export import export_compact
    from ivm.training import compact

    config = configure("generator", "optimise.steps=4")
    train(config, quiet)
    monkeypatch.setattr(compact, "export_compact", export_compact)
    folder = export(config.folder, f"{config.folder}/mine", quiet)
    masker = ivm.load(folder)
    sample = ShardSet(stores["human"])[0]
    heatmap = masker(sample.image, sample.instructions[0])
    assert masker.name == "mine"
    module = assemble(replace(config, init=config.folder))[0].module.eval()
    from ivm.training.feed import Place, Viewer

    trainee = assemble(config)[0]
    batch = trainee.collate([Viewer(32, None)(sample, Place(0, 0, 0, 0))])
    with torch.no_grad():
        logits, found = module(*batch.inputs)
    assert heatmap.score == pytest.approx(float(found.sigmoid()), abs=0.02)
    assert heatmap.values.mean() == pytest.approx(float(logits.sigmoid().mean()), abs=0.02)


def test_figures_go_to_tensorboard(configure):
    pytest.importorskip("tensorboard")
    config = configure("generator", "track=['tensorboard']")
    train(config, quiet)
    files = [name for _, _, names in os.walk(config.folder) for name in names if "tfevents" in name]
    assert files


SCRIPT = """
import json, pathlib, sys
from accelerate import PartialState, state
from accelerate.utils import DistributedType
from ivm.training.config_file import read_config
from ivm.training.recipe import train

if "fsdp" in sys.argv:  # torch shards on CPUs, too; accelerate offers it on GPUs and the like alone
    sys.argv.remove("fsdp")
    plain = state.AcceleratorState.__init__

    def init(self, *args, **options):
        plain(self, *args, **options)
        self.fsdp_plugin = options.get("fsdp_plugin") or self.fsdp_plugin
        self.distributed_type = DistributedType.FSDP

    state.AcceleratorState.__init__ = init
if "deepspeed" in sys.argv:  # it computes on CPUs, too; accelerate asks it to on GPUs and the like alone
    sys.argv.remove("deepspeed")
    PartialState(backend="gloo")
config = read_config(sys.argv[1], "generator", sys.argv[2:])
train(config, lambda line: None)
mine = PartialState().process_index
pathlib.Path(config.folder, f"process-{mine}").touch()
"""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT", "FSDP_OFFLOAD_PARAMS": "false",
}  # fmt: skip


@pytest.fixture
def on_processes(stores, tmp_path):
    """Train on so many processes of this machine (gloo): (losses, losses of validation, weights)."""
    pytest.importorskip("transformers")
    path = tmp_path / "several.toml"
    path.write_text(
        "report_every = 1\nsave_every = 3\ntrack = []\n[model]\nimage_size = 32\n[model.sizes]\n"
        "dim = 32\nheads = 4\nstem = [8, 16, 24]\nimage_blocks = 1\nfusion_blocks = 1\ntext_blocks = 1\n"
        f'text_layers = 1\nvocabulary = 400\n[data]\nstores = ["{stores["mixed"]}"]\n'
        f'validation = ["{stores["val"]}"]\nworkers = 0\n[optimise]\nsteps = 6\nbatch_size = 8\nwarmup = 2\n'
        'precision = "fp32"\naverage = 0\n[loss]\nweights = "equal"\n'
    )
    script = tmp_path / "several.py"
    script.write_text(SCRIPT)

    def run(count, *words, folder=None, steps=6, **environment):
        folder = folder or tmp_path / f"{count}-{'-'.join(words)}"
        (folder / "process-0").unlink(missing_ok=True)
        (folder / "process-1").unlink(missing_ok=True)
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(count),
        ]
        subprocess.run(
            [*launch, str(script), str(path), f"folder={folder}", f"optimise.steps={steps}", *words],
            check=True, timeout=280,
            env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | environment,
        )  # fmt: skip
        assert len(list(folder.glob("process-*"))) == count  # or they did not know of each other
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
        assert list(losses) == list(range(1, steps + 1))
        checks = [line["validation_loss"] for line in lines if "validation_loss" in line]
        return list(losses.values()), checks, load_file(folder / "last.safetensors")

    return run


DEEPSPEED = {
    "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_CPU": "false", "DS_ACCELERATOR": "cpu",
}  # fmt: skip


WAYS = {
    "ddp": ((), {}),
    "fsdp": (("fsdp",), SHARDED),
    "deepspeed-2": (("deepspeed",), DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}),
    "deepspeed-3": (("deepspeed",), DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}),
}
STRICT = ("optimise.clip=0.05", "optimise.accumulate=2")
"""Every gradient is longer than that, and comes in two parts: both are the configuration's to decide."""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_give_the_loss_curve_of_one(on_processes, tmp_path, way):
    """The configuration is the same, for a batch is that of all processes together; also when interrupted."""
    if way.startswith("deepspeed"):
        pytest.importorskip("deepspeed")
    words, environment = WAYS[way]
    losses, checks, weights = on_processes(1, *STRICT, folder=tmp_path / "one")
    two = tmp_path / "two"
    on_processes(2, *STRICT, *words, folder=two, steps=3, **environment)
    losses_of_two, checks_of_two, weights_of_two = on_processes(2, *STRICT, *words, folder=two, **environment)
    assert losses_of_two == pytest.approx(losses, rel=1e-4)
    assert checks_of_two == pytest.approx(checks, rel=1e-3)
    assert set(weights_of_two) == set(weights)
    for name, value in weights.items():
        torch.testing.assert_close(weights_of_two[name], value, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_deepspeed_computes_in_bf16_what_others_do(on_processes, tmp_path):
    pytest.importorskip("deepspeed")
    words, environment = WAYS["deepspeed-2"]
    full, _, _ = on_processes(1, folder=tmp_path / "full")
    losses, _, weights = on_processes(1, "optimise.precision=bf16", folder=tmp_path / "one")
    assert losses != full
    two = on_processes(2, "optimise.precision=bf16", *words, folder=tmp_path / "two", **environment)
    assert two[0] == pytest.approx(losses, rel=1e-3)
    assert {value.dtype for value in two[2].values()} == {torch.float32}
    assert set(two[2]) == set(weights)


def test_deepspeed_is_told_what_the_configuration_says(configure):
    """Its own file may say otherwise, or nothing, which it takes for one part and no clipping."""
    ways = {
        "gradient_clipping": 7.0,
        "gradient_accumulation_steps": "auto",
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3},
    }
    plugin = SimpleNamespace(deepspeed_config=ways)
    accelerator = SimpleNamespace(num_processes=2, state=SimpleNamespace(deepspeed_plugin=plugin))
    config = configure("generator", "optimise.batch_size=12", "optimise.accumulate=3", "optimise.clip=0.5")
    recipe._steer_deepspeed(accelerator, config, bf16=True)
    assert ways["train_micro_batch_size_per_gpu"] == 2
    assert (ways["gradient_accumulation_steps"], ways["gradient_clipping"]) == (3, 0.5)
    assert not ways["bf16"]["enabled"]
    assert ways["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}
    assert ways["zero_optimization"] == {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}


def test_deepspeed_that_is_not_installed_is_told(configure, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[deepspeed\]'"):
        train(configure("generator"), quiet)


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_processes(on_processes, tmp_path):
    average = "optimise.average=0.9"
    on_processes(1, average, folder=tmp_path / "one", steps=3)
    wanted, _, weights = on_processes(1, average, folder=tmp_path / "one")
    on_processes(2, average, folder=tmp_path / "changed", steps=3)
    losses, _, weights_of_changed = on_processes(1, average, folder=tmp_path / "changed")
    assert losses == pytest.approx(wanted, rel=1e-4)
    for name, value in weights.items():
        torch.testing.assert_close(weights_of_changed[name], value, atol=2e-4, rtol=1e-3)


def test_processes_that_do_not_know_of_each_other_are_refused(configure, monkeypatch):
    """A wrong configuration of accelerate starts them so, and each would write over the other's run."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    config = configure("generator")
    with pytest.raises(OptionError, match="2 processes were started, but accelerate did not join them"):
        train(config, quiet)
    assert not (Path(config.folder) / "state.json").exists()
