"""Evaluate a checkpoint: `python evaluate.py checkpoint=RUN_OR_CKPT`; see README.md and conf/evaluate.yaml."""

from bloodcell.cli import program

if __name__ == "__main__":
    program("evaluate")
