import dataclasses
import pathlib

import pytest
from absl import flags

from mic_tf import settings
from mic_tf.errors import UserError
from mic_tf.settings import DataSettings, RunSettings, TrainSettings

CONFIGS = sorted(pathlib.Path(settings.__file__).parent.glob("configs/*.cfg"))


def parse(*arguments: str) -> RunSettings:
    values = flags.FlagValues()
    sections = [type(f.default) for f in dataclasses.fields(RunSettings)]
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    flags.DEFINE_string("undefok", "", "", flag_values=values)
    settings.define_flags(*sections, flag_values=values)
    values(["train", *arguments])
    return settings.run_from_flags(values)


def test_flags_without_values_are_the_defaults():
    assert parse() == RunSettings()


def test_flags_reach_the_settings_with_their_types():
    run = parse("--epochs=3", "--jit", "--balance_alpha=0.5", "--protocol=random")
    assert run.train.epochs == 3
    assert run.train.jit is True
    assert run.data.balance_alpha == 0.5
    assert run.data.protocol == "random"


@pytest.mark.parametrize(
    "argument", ["--epochs=0", "--balance_alpha=2", "--protocol=best", "--n_fft=big"]
)
def test_impossible_values_are_refused(argument):
    with pytest.raises(flags.Error):
        parse(argument)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_parses_and_is_not_the_default(path):
    assert parse(f"--flagfile={path}") != RunSettings()


def test_the_phases_of_the_study_are_there():
    names = {path.stem for path in CONFIGS}
    assert {"phase1", "phase2", "phase3", "phase4", "quickstart"} <= names


def test_json_and_back_is_the_same():
    run = RunSettings(train=TrainSettings(epochs=7, init_from="x"))
    assert settings.run_from_dict(settings.to_dict(run), "here") == run


def test_unknown_setting_in_a_config_names_file_and_setting():
    content = settings.to_dict(RunSettings())
    content["train"]["epoches"] = 3
    with pytest.raises(UserError, match="config.json: unknown setting train.epoches"):
        settings.run_from_dict(content, "config.json")


def test_differences_are_only_those_that_change_the_weights():
    old = RunSettings()
    moved = dataclasses.replace(old, data=DataSettings(data_dir="elsewhere"))
    assert settings.differences(old, moved) == []
    longer = dataclasses.replace(old, train=TrainSettings(epochs=11))
    assert settings.differences(old, longer) == ["epochs: 10 -> 11"]


def test_a_run_goes_on_with_its_service_at_another_address():
    alone, first, second = (
        settings.RunSettings(data=settings.DataSettings(data_service=address))
        for address in ("", "grpc://a:1", "grpc://b:2")
    )
    assert settings.differences(first, second) == []
    for before, after in ((first, alone), (alone, first)):
        [changed] = settings.differences(before, after)
        assert changed.startswith("data_service: ")


LATER = ("winograd", "fused_norm")


def test_a_run_saved_before_there_was_a_setting_keeps_what_it_did():
    content = settings.to_dict(settings.RunSettings())
    for name in (*LATER, "jit"):
        del content["train"][name]
    saved = settings.run_from_dict(content, "config.json")
    assert not any(getattr(saved.train, name) for name in LATER)
    assert saved.train.jit is settings.TrainSettings().jit
    assert settings.differences(saved, settings.RunSettings()) == [
        f"{name}: false -> true" for name in LATER
    ]


@pytest.mark.parametrize("name", LATER)
def test_going_on_with_an_older_run_keeps_what_it_did_unless_asked(name):
    content = settings.to_dict(settings.RunSettings())
    asked = settings.RunSettings()
    assert settings.as_it_began(asked, content, given=()) == asked
    del content["train"][name]
    began = settings.as_it_began(asked, content, given=())
    assert getattr(began.train, name) is False
    assert dataclasses.replace(began.train, **{name: True}) == asked.train
    assert settings.as_it_began(asked, content, given={name}) == asked
