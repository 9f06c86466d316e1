from pathlib import Path

import pytest

pytest.importorskip("torch")

from ivm.errors import OptionError
from ivm.training.config import STAGES
from ivm.training.config_file import options, read_config, template

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "c.toml"
        path.write_text(text)
        return path

    return make


GOOD = '[data]\nstores = ["a", "$HOME/b"]\n[loss]\nweights = "equal"\n'


def test_paths_are_relative_to_the_file_and_use_the_environment(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = read_config(write(GOOD + "[model.sizes]\ndim = 64\nheads = 4\n"), "generator")
    assert config.data.stores == (str(tmp_path / "a"), "/home/me/b")
    assert config.folder == str(tmp_path / "run")
    assert config.model.sizes == {"dim": 64, "heads": 4}


def test_overrides_come_before_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    config = read_config(
        write(GOOD), "generator", ["optimise.steps=900", "folder=here/it", "model.sizes={dim=64}", "seed = 3"]
    )
    assert (config.optimise.steps, config.seed) == (900, 3)
    assert config.folder == str(tmp_path.parent / "here" / "it")
    assert config.model.sizes == {"dim": 64}


def test_text_needs_no_quotes_whatever_it_looks_like(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(GOOD)
    for text in ("2026-11-28", "2026", "1e3", "true"):
        assert read_config(path, "generator", [f"folder={text}"]).folder == str(tmp_path / text)
    asked = read_config(path, "generator", ["folder = mine ", "optimise.steps = 900"])
    assert (asked.folder, asked.optimise.steps) == (str(tmp_path / "mine"), 900)
    with pytest.raises(OptionError, match="folder must name a folder, but is empty"):
        read_config(path, "generator", ["folder="])


def test_a_byte_order_mark_is_passed_over(write):
    path = write(GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_config(path, "generator").stage == "generator"


def test_sizes_that_name_a_folder_are_found_beside_the_file(write, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    from ivm.models.tiny import write_tiny

    write_tiny(tmp_path / "bases").save_pretrained(tmp_path / "preset")
    (tmp_path / "ivm-v1").mkdir()  # a preset's name is the preset's
    monkeypatch.setenv("PLACE", str(tmp_path))
    text = GOOD + (
        '[model]\nkind = "full"\nimage_size = 64\n'
        '[model.sizes]\npreset = "preset"\nlmm = "bases/lmm"\nimage = "$PLACE/bases/image"\n'
    )
    monkeypatch.chdir(tmp_path.parent)
    sizes = read_config(write(text), "generator").model.sizes
    assert sizes == {
        "preset": str(tmp_path / "preset"),
        "lmm": str(tmp_path / "bases" / "lmm"),
        "image": str(tmp_path / "bases" / "image"),
    }
    named = ["model.sizes.preset=ivm-v1", "model.sizes.lmm=some/llava", "model.image_size=1024"]
    sizes = read_config(write(text), "generator", named).model.sizes
    assert (sizes["preset"], sizes["lmm"]) == ("ivm-v1", "some/llava")
    here = [f"model.sizes.lmm={tmp_path.name}/bases/lmm"]  # of --set: from the current folder
    assert read_config(write(text), "generator", here).model.sizes["lmm"] == str(tmp_path / "bases" / "lmm")
    with pytest.raises(OptionError, match=r"model\.sizes\.lmm: \$NOWHERE/x uses a variable that is not set"):
        read_config(write(text), "generator", ["model.sizes.lmm=$NOWHERE/x"])


def test_every_fault_is_told_at_once_with_the_nearest_name_and_the_file(write):
    text = """
    seeds = 3
    track = "tensorboard"
    [optimise]
    learning_rat = 0.1
    steps = "many"
    [data]
    stores = ["$NO_SUCH_VARIABLE/x"]
    store = []
    [loss]
    weights = "dwls"
    [agument]
    crop = 1
    [model.sizes]
    dims = 3
    heads = 0
    """
    with pytest.raises(OptionError) as caught:
        read_config(write(text), "generator", ["model.imagesize=64", "nonsense"])
    message = str(caught.value)
    assert "c.toml has" in message
    for part in (
        "there is no option seeds: did you mean seed?",
        "track must be a list of texts",
        "no option optimise.learning_rat: did you mean optimise.learning_rate?",
        "optimise.steps must be a whole number, but is 'many'",
        "uses a variable that is not set",
        "no option data.store: did you mean data.stores?",
        "did you mean dwsl?",
        "there is no option agument",
        "there is no option model.sizes.dims: did you mean dim?",
        "model: heads must be a whole number of at least 1, but is 0",
        "no option model.imagesize: did you mean model.image_size?",
        "--set must be NAME=VALUE, but is 'nonsense'",
    ):
        assert part in message


def test_sizes_are_checked_by_the_architecture(write):
    with pytest.raises(OptionError, match=r"model\.sizes\.dims: did you mean dim\?"):
        read_config(write(GOOD + "[model.sizes]\ndims = 64\n"), "generator")
    with pytest.raises(OptionError, match="dim must be a multiple of heads"):
        read_config(write(GOOD + "[model.sizes]\ndim = 63\n"), "generator")
    with pytest.raises(OptionError, match=r"model\.sizes must be a table, but is 3"):
        read_config(write(GOOD), "generator", ["model.sizes=3", "model.sizes.dim=32"])
    with pytest.raises(OptionError, match="multiple of 16"):
        read_config(write(GOOD + "[model]\nimage_size = 100\n"), "generator")
    text = '[data]\nstores = ["a"]\n[model.sizes]\nthreshold = 0.5\n'
    with pytest.raises(OptionError, match=r"no option model\.sizes\.threshold"):
        read_config(write(text), "discriminator")


def test_options_of_the_other_stage_are_unknown(write):
    with pytest.raises(OptionError, match=r"no option loss\.weights"):
        read_config(write(GOOD), "discriminator")


def test_files_that_cannot_be_read(write, tmp_path):
    with pytest.raises(OptionError, match="cannot read the configuration"):
        read_config(tmp_path / "none.toml", "generator")
    with pytest.raises(OptionError, match="is not TOML"):
        read_config(write("a = = b"), "generator")
    with pytest.raises(OptionError, match="optimise must be a table"):
        read_config(write("optimise = 3"), "generator")


@pytest.mark.parametrize("stage", STAGES)
def test_the_template_is_a_configuration_at_its_defaults(stage, write):
    text = template(stage).replace("stores = []", 'stores = ["a"]')
    needed = ["loss.discriminator=d"] if stage == "generator" else []
    config = read_config(write(text), stage, needed)
    plain = read_config(write('[data]\nstores = ["a"]'), stage, needed)
    assert config.to_dict() == plain.to_dict()
    for name, one in options(stage):
        assert one.metadata["about"], name


@pytest.mark.parametrize("stage", STAGES)
def test_the_committed_files_are_the_templates(stage):
    committed = ROOT / "runs" / f"{stage}.toml"
    assert committed.read_text() == template(stage), f"run: ivm train options {stage} > runs/{stage}.toml"
