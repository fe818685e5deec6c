"""Pages that are served to the tests by a real server, on a port of its own."""

import faulthandler
import http.client
import json
import shutil
import time
from threading import Thread
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from bloodcell.app import app
from bloodcell.app.server import bound, server_of
from bloodcell.data.cells import find_cells
from bloodcell.data.corrections import now
from bloodcell.inference import predict
from bloodcell.models.ood import Limits
from bloodcell.runtime.config import typed
from bloodcell.runtime.schema.verbs import AppConfig
from tests.painted import field


class Page:
    """A page that is served, and a client that sends to it what it is told to."""

    def __init__(self, port):
        self.port, self.host = port, f"127.0.0.1:{port}"
        self.address = f"http://{self.host}"

    def ask(self, method, path, body=None, headers=(), **options):
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers), **options)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, address, content=None):
        """Return the JSON that the page of a folder answers, to a post if there is content."""
        method, body = ("GET", None) if content is None else ("POST", json.dumps(content))
        return json.loads(self.ask(method, f"/review/{address}", body)[2])

    def decide(self, *decided, when=None):
        """Send decisions, pairs of a row and a label; return status and JSON."""
        content = {"digest": self.json("state")["digest"], "when": when or now(), "decided": decided}
        status, _, body = self.ask("POST", "/review/decide", json.dumps(content))
        return status, json.loads(body)

    def examine(self, content, name="a.png", headers=(), **options):
        """Return status and JSON of the answer to one file."""
        path = f"/examine?name={quote(str(name))}"
        status, _, body = self.ask("POST", path, content, headers, **options)
        return status, json.loads(body)


@pytest.fixture(scope="session")
def twelve(tmp_path_factory):
    """Return the file of a painted field in which the finder finds all twelve cells: the first of some, so chosen."""
    painted = (field(seed, across=4, down=3) for seed in range(20))
    chosen = next(picture for picture in painted if len(find_cells(picture)) == 12)
    file = tmp_path_factory.mktemp("fields") / "field of twelve.png"
    Image.fromarray(chosen).save(file)
    return file


@pytest.fixture(scope="session")
def seeing_run(quick_run, tmp_path_factory):
    """Return a run whose net looks for the cell, on so many pixels that it has a Grad-CAM."""
    folder = tmp_path_factory.mktemp("runs") / "seeing"
    shutil.copytree(quick_run, folder, ignore=shutil.ignore_patterns("tensorboard", "figures", ".lock"))
    file = folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    checkpoint["hyper_parameters"]["preprocessing"] |= {"image_size": 64, "crop": "cell"}
    torch.save(checkpoint, file)
    return folder


@pytest.fixture(scope="session")
def start(compose, quick_run):
    """Serve a page: start("max_megabytes=1", run=folder, change=function of an engine) -> Page."""
    running = []

    def started(*overrides, run=quick_run, change=None):
        cfg = compose("device=cpu", *overrides, verb="app")
        cfg.checkpoint = [str(one) for one in run] if isinstance(run, list) else str(run)
        config = typed(cfg, AppConfig)
        load = predict.load_engines

        def changed(*given, **choices):
            engines = load(*given, **choices)
            for engine in engines:
                change(engine)
            return engines

        with pytest.MonkeyPatch.context() as patch:
            if change:
                patch.setattr(predict, "load_engines", changed)
            make = app.application_of if config.images is None else app.folder_application
            server = server_of(make(config))
        listening = bound("127.0.0.1", 0)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        running.append((server, thread, listening))
        return Page(listening.getsockname()[1])

    yield started
    for server, _, _ in running:
        server.should_exit = True
    for _, thread, listening in running:
        thread.join(60)  # a request under way has 3 s; the rest is for a busy machine
        listening.close()
        if thread.is_alive():
            faulthandler.dump_traceback()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def page(start):
    """A page with the settings that ship."""
    return start()


@pytest.fixture(scope="session")
def cell_folder(smears, tmp_path_factory):
    """Copy pictures of one cell each to a new folder, on slides of six: cell_folder(18) -> the folder."""

    def made(count):
        folder = tmp_path_factory.mktemp("review")
        for number in range(count):
            place = folder / f"slide {number // 6 + 1}" / f"cell {number:03}.jpeg"
            place.parent.mkdir(exist_ok=True)
            shutil.copy(smears.root / smears.table["path"].iloc[number % len(smears.table)], place)
        return folder

    return made


@pytest.fixture
def review(start):
    """Serve the page of a folder, and wait until its cells are judged: review(folder, "blind=true") -> Page."""

    def served(folder, *overrides, **options):
        page = start(f"images={folder}", *overrides, **options)
        for _ in range(600):
            state = page.json("state")
            if state["digest"] or state["failed"]:
                return page
            time.sleep(0.05)
        raise AssertionError("the cells are not judged")

    return served


@pytest.fixture(scope="session")
def seeing(start, seeing_run):
    """A page of a net that looks for the cell and can show where it looked."""
    return start(run=seeing_run)


@pytest.fixture(scope="session")
def limited():
    """Give an engine limits: limited(threshold) -> a change for `start`. Every image has a score of about 1."""

    def change(threshold):
        def limit(engine):
            means = np.zeros((len(engine.classes), engine.classifier.net.width), np.float32)
            engine.limits = Limits(means, np.eye(means.shape[1], dtype=np.float32), threshold, {"0.05": 0.5})

        return limit

    return change
