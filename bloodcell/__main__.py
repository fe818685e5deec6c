"""`python -m bloodcell VERB` is the console command `bloodcell VERB`."""

from bloodcell.cli import program

program()
