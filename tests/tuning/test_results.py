"""What a study leaves, where several processes write it at once."""

import pytest

pytest.importorskip("optuna")

import optuna
from optuna.distributions import FloatDistribution
from torch.utils.tensorboard import SummaryWriter

from bloodcell.tuning.study_results import keep_trial

TRIAL = optuna.trial.create_trial(
    params={"a": 0.5}, distributions={"a": FloatDistribution(0, 1)}, value=0.9, intermediate_values={0: 0.8}
)
TRIAL.number = 3


def test_two_processes_at_one_trial_keep_it_once(tmp_path, monkeypatch):
    close, others = SummaryWriter.close, [tmp_path / "workers" / "other"]

    def meanwhile(writer):
        if others:  # the other one begins later, and is done before
            keep_trial(TRIAL, "accuracy", tmp_path, others.pop())
        close(writer)

    monkeypatch.setattr(SummaryWriter, "close", meanwhile)
    keep_trial(TRIAL, "accuracy", tmp_path, tmp_path / "workers" / "one")
    assert [run.name for run in (tmp_path / "tensorboard").iterdir()] == ["trial-0003"]
    assert len(list((tmp_path / "tensorboard" / "trial-0003").iterdir())) == 1
    assert not [file for file in (tmp_path / "workers").rglob("*") if file.is_file()]
