"""Early stopping waits for the last phase of fine-tuning."""

import pytest
import torch

from bloodcell.training.callbacks.early_stopping import EarlyStopping
from bloodcell.training.checkpoint import stopped_early


class Trainer:
    """As much of Lightning's Trainer as early stopping looks at, in an epoch whose loss is given."""

    fast_dev_run = sanity_checking = should_stop = False
    val_check_interval, check_val_every_n_epoch = 1.0, 1

    def __init__(self):
        from pytorch_lightning.trainer.states import TrainerFn

        self.state = type("State", (), {"fn": TrainerFn.FITTING})
        self.strategy = type("Strategy", (), {"reduce_boolean_decision": staticmethod(lambda stop, all: stop)})

    def see(self, epoch, loss):
        self.current_epoch, self.callback_metrics = epoch, {"val/loss": torch.tensor(loss)}
        return self


@pytest.mark.parametrize(("last_phase", "stops_in"), [(0, 2), (4, 6)])
def test_epochs_before_the_last_phase_do_not_count(last_phase, stops_in):
    """Worse in each epoch, the first the best of all: patience 2 is spent two epochs after the last phase began."""
    stopping, trainer = EarlyStopping("val/loss", patience=2), Trainer()
    trainer.lightning_module = module = type("Module", (), {"last_phase": last_phase})
    stopping.setup(trainer, module, "fit")
    for epoch in range(10):
        stopping.on_train_epoch_end(trainer.see(epoch, 1.0 + epoch), module)
        stopping.on_validation_end(trainer, module)
        assert trainer.should_stop is (epoch == stops_in)
        assert stopped_early({"callbacks": {stopping.state_key: stopping.state_dict()}}) is trainer.should_stop
        if trainer.should_stop:
            return
    raise AssertionError("did not stop")
