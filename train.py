"""Train a classifier: `python train.py [group=option] [key=value]`; see README.md and conf/train.yaml."""

from bloodcell.cli import program

if __name__ == "__main__":
    program("train")
