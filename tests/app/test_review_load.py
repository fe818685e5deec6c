"""The page of a folder under load: 10,000 decisions through five kills, 20,000 cells, and a kill as it learns."""

import http.client
import json
import os
import queue
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

from bloodcell.data.corrections import now, read_corrections
from tests.app.folder_server import FolderServer

pytestmark = pytest.mark.slow


@pytest.mark.timeout(1800)
def test_ten_thousand_decisions_of_two_tabs_through_five_kills(quick_run, cell_folder, tmp_path):
    file, folder = tmp_path / "c.csv", cell_folder(24)
    server = FolderServer(
        f"checkpoint={quick_run}", f"images={folder}", f"corrections={file}", "reviewer=Ada", "cells=one"
    )
    server.start()
    digest, labels = server.state()["digest"], ["EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL", "no white cell"]
    sent, kept, failures = [[], []], queue.Queue(), []

    def tab(number):
        """Decide on the cells of this tab, each decision until it has an answer, as the page does."""
        try:
            for step in range(5000):
                decision = [12 * number + step % 12, labels[step % 5]]
                content = json.dumps({"digest": digest, "when": now(), "decided": [decision]})
                while True:
                    try:
                        status, body = server.ask("POST", "decide", content)
                        if status != 503:
                            break
                    except (OSError, http.client.HTTPException):
                        pass
                    time.sleep(0.05)
                assert status == 200, body
                sent[number].append((decision, json.loads(content)["when"]))
                kept.put(1)
        except BaseException as error:  # noqa: BLE001 - told by the test below
            failures.append(error)

    tabs = [threading.Thread(target=tab, args=(number,), daemon=True) for number in range(2)]
    for one in tabs:
        one.start()
    for kill in range(5):
        while kept.qsize() < 1700 * (kill + 1):
            assert not failures
            time.sleep(0.01)
        server.end(signal.SIGKILL)
        server.start()
    for one in tabs:
        one.join()
    server.end()
    assert not failures
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpeg"))
    found = [(one.path, one.label, one.when) for one in read_corrections(file).decisions]
    wanted = [(paths[row], label, when) for each in sent for (row, label), when in each]
    assert len(wanted) == 10_000
    assert sorted(found) == sorted(wanted)  # none lost, none doubled
    for number in range(2):  # and in the order of each tab
        own = set(paths[12 * number : 12 * number + 12])
        assert [one for one in found if one[0] in own] == wanted[5000 * number : 5000 * number + 5000]


@pytest.mark.timeout(1800)
def test_twenty_thousand_cells(quick_run, smears, tmp_path):
    folder = tmp_path / "cells"
    for number in range(20_000):
        place = folder / f"slide {number // 500:02}" / f"{number:05}.jpeg"
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(_copied(smears, tmp_path, number % 24), place)
    server = FolderServer(f"checkpoint={quick_run}", f"images={folder}", "cells=one")
    server.process = subprocess.Popen(server.line, stdout=subprocess.DEVNULL)
    while not server.state().get("digest"):
        time.sleep(1)
        assert server.process.poll() is None
    server.end()
    started = time.monotonic()
    server.start()  # all are judged already
    began = time.monotonic() - started
    started = time.monotonic()
    cells = json.loads(server.ask("GET", "cells")[1])
    server.ask("GET", "labels")
    first = np.argsort(-np.array(cells["doubt"]), kind="stable")[:60]
    digest, rows = server.state()["digest"], ",".join(map(str, first))
    assert len(json.loads(server.ask("GET", f"views?digest={digest}&rows={rows}")[1])) == 60
    grid = time.monotonic() - started
    server.ask("GET", "next?count=25")
    assert server.ask("GET", "count")[0] == 200
    most = server.peak()
    server.end()
    print(f"20,000 cells: the server begins in {began:.1f} s, first grid {grid:.2f} s, at most {most:.2f} GB")
    assert len(cells["path"]) == 20_000
    assert grid < 2
    assert most < 1.5


@pytest.mark.timeout(900)
def test_the_learning_ends_with_a_page_that_is_killed(quick_run, cell_folder, tmp_path):
    words = [f"checkpoint={quick_run}", f"images={cell_folder(24)}", f"corrections={tmp_path / 'c.csv'}", "cells=one"]
    server = FolderServer(*words, f"outputs={tmp_path}")
    server.start()
    decided = [[row, ("EOSINOPHIL", "LYMPHOCYTE")[row % 2]] for row in range(20)]
    content = {"digest": server.state()["digest"], "when": now(), "decided": decided}
    assert server.ask("POST", "decide", json.dumps(content))[0] == 200
    assert server.ask("POST", "learn", json.dumps({"action": "start"}))[0] == 200
    while not (runs := [*tmp_path.glob("adapt/*/run.json")]):
        assert server.state()["learning"]["state"] == "runs"
        time.sleep(0.1)
    server.end(signal.SIGKILL)
    deadline = time.monotonic() + 120
    while json.loads(runs[0].read_text())["status"] != "interrupted":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not [*tmp_path.glob("adapt/*/checkpoints/best.ckpt")]


def _copied(smears, folder, number):
    file = folder / f"{number}.jpeg"
    if not file.exists():
        file.write_bytes((smears.root / smears.table["path"].iloc[number]).read_bytes())
    return file
