"""Tuning: a study of trials, each a training with settings of its own, judged by the validation part."""
