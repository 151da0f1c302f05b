"""The contract: what is written can be read, and anything else is refused."""

import json

import pytest

from mic_tf.errors import UserError
from mic_tf.serving import contract as contracts

CONTRACT = contracts.Contract(
    labels=("bell", "drum"),
    embedding_width=16,
    temperature=1.25,
    versions={"tensorflow": "2.17.1"},
    training={"data": {"protocol": "official"}},
    results=[{"split": "valid", "accuracy": 0.5}],
    settings={"network": {"width": 8}},
)


def written(tmp_path, **changes) -> str:
    content = {**CONTRACT.to_dict(), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    (tmp_path / "contract.json").write_text(json.dumps(kept))
    return str(tmp_path)


def test_a_contract_is_read_as_it_was_written(tmp_path):
    assert contracts.read(written(tmp_path)) == CONTRACT


def test_an_earlier_version_is_read_where_it_is_accepted(tmp_path):
    windowing = dict(CONTRACT.to_dict()["windowing"])
    folder = written(tmp_path, contract_version=1, windowing=windowing)
    with pytest.raises(UserError, match="windowing.combine is .*each weighted"):
        contracts.read(folder, contracts.KNOWN)
    windowing["combine"] = "mean of the windows' probabilities"
    folder = written(tmp_path, contract_version=1, windowing=windowing)
    assert contracts.read(folder, contracts.KNOWN) == CONTRACT
    with pytest.raises(UserError, match="contract_version 1; 2 expected"):
        contracts.read(folder)


def test_keys_of_later_programs_do_not_matter(tmp_path):
    assert contracts.read(written(tmp_path, remark="new")) == CONTRACT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contract_version": 1}, "contract_version 1; 2 expected: export the model"),
        ({"contract_version": 3}, "contract_version 3; 2 expected: export the model"),
        ({"contract_version": None}, "contract_version None; 2 expected"),
        ({"labels": []}, r"labels \[\]; a list of different names"),
        ({"labels": ["bell", "bell"]}, "a list of different names"),
        ({"labels": ["bell", 3]}, "a list of different names"),
        ({"labels": ["bell", "drum", "gong"]}, r"outputs.probabilities is .*2.*3"),
        ({"outputs": {}}, "the embedding's shape expected"),
        ({"outputs": {"embedding": {"shape": ["batch", 0]}}}, "embedding's shape"),
        ({"temperature": 0}, "temperature is 0; a number above 0"),
        ({"temperature": "1"}, "temperature is '1'; a number above 0"),
        ({"training": None}, "training is None; an object expected"),
        ({"results": {}}, "results is {}; a list expected"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(UserError, match=rf"contract.json: .*{message}"):
        contracts.read(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("input", "sample_rate", 22_050),
        ("input", "channels", 2),
        ("windowing", "window_samples", 48_000),
        ("windowing", "min_samples", 400),
    ],
)
def test_a_model_of_another_rate_or_windowing_is_refused(tmp_path, section, key, value):
    changed = {**CONTRACT.to_dict()[section], key: value}
    with pytest.raises(UserError, match=f"{section}.{key} is {value}; .* expected"):
        contracts.read(written(tmp_path, **{section: changed}))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\x00"])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "contract.json").write_text(text)
    with pytest.raises(UserError, match="contract.json"):
        contracts.read(str(tmp_path))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "contract.json").mkdir()
    with pytest.raises(UserError, match=r"contract.json: cannot be read: .*directory"):
        contracts.read(str(tmp_path))
