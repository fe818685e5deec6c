"""A command that was started to end with its parent does so even if the parent is killed."""

import os
import subprocess
import sys

CHILD = """
import time
from bloodcell.runtime.parent import end_with_parent
end_with_parent()
print("begun", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
from bloodcell.runtime.parent import environment
subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, env=environment())
time.sleep(60)
"""


def test_a_command_ends_as_its_parent_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "begun\n"
    parent.kill()
    parent.wait()
    assert parent.communicate(timeout=30)[0] == ""  # the child had this pipe, too: it is gone


def test_other_commands_do_not_look_at_their_input():
    environment = {name: value for name, value in os.environ.items() if name != "BLOODCELL_ENDS_WITH_PARENT"}
    given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "env": environment, "text": True}
    short = CHILD.replace("sleep(60)", "sleep(0.5)")
    done = subprocess.run([sys.executable, "-c", short], **given, check=True)
    assert done.stdout == "begun\n"
