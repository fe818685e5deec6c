"""The verb `app`: what it says of the classifier, what it refuses, and how it begins and ends."""

import asyncio
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from bloodcell import cli
from bloodcell.app import app
from bloodcell.app import server as server_module
from bloodcell.app.classifier_summary import figure_lines, sureness
from bloodcell.app.server import address_of, bound, is_loopback, run_until_stopped, server_of
from bloodcell.inference.loader import load_engines
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import AppConfig


@pytest.fixture(scope="module")
def engines(quick_run):
    return load_engines(str(quick_run), "cpu")


def test_the_figures_of_the_run_are_on_the_page(page, quick_run, smears):
    text = re.sub(r"[ \n]+", " ", page.ask("GET", "/")[2].decode())
    metrics = json.loads((quick_run / "metrics.json").read_text())
    for name in sorted(set(smears.table["label"])):
        assert name in text
    right = (
        f"Right on {100 * metrics['test/accuracy']:.1f}\N{NO-BREAK SPACE}% of {metrics['test/images']} test images (95"
    )
    assert right in text
    assert re.search(r"It learnt from \d+ images of \d+ sources\.", text)
    assert "not a medical device" in text
    assert "It cannot flag images that are unlike its training images" in text


def test_figures_are_those_of_each_part_and_none_where_there_is_no_such_file(tmp_path):
    assert figure_lines(tmp_path) == []
    (tmp_path / "metrics.json").write_text(
        '{"val/accuracy": 0.5, "val/images": 4, "test/accuracy": 1, "test/images": 8}'
    )
    first, second = figure_lines(tmp_path)
    assert first.startswith("Right on 100.0\N{NO-BREAK SPACE}% of 8 test images. Their sources are unknown")
    assert second.startswith("Right on 50.0\N{NO-BREAK SPACE}% of 4 validation images.")
    (tmp_path / "metrics.json").write_text("{")
    assert figure_lines(tmp_path) == []


def test_the_mean_of_several_has_no_figures_of_one(start, another):
    text = start("tta=flips", run=[another("a"), another("b")]).ask("GET", "/")[2].decode()
    assert "mean of 2 classifiers" in text
    assert "Right on" not in text


def test_sure_is_what_was_promised_else_what_is_usual(engines, limited):
    threshold, words = sureness(None, None, engines, "none")
    assert threshold == 0.8
    assert "80\N{NO-BREAK SPACE}% probability, a usual choice, as 5\N{NO-BREAK SPACE}% errors are not promised" in words
    assert sureness(0.6, None, engines, "none")[0] == 0.6
    with pytest.raises(BloodcellError, match="this checkpoint made no promise"):
        sureness(None, 0.05, engines, "none")
    limited(2.0)(engines[0])
    threshold, words = sureness(None, None, engines, "none")
    assert threshold == 0.5
    assert "at most 5\N{NO-BREAK SPACE}% of the sure answers are wrong" in words
    assert sureness(None, None, engines, "flips")[0] == 0.8
    engines[0].limits = None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["checkpoint=/no/such"], "no such run or checkpoint"),
        (["port=70000"], "port=70000; give 0 to 65,535"),
        (["max_megabytes=0"], "max_megabytes=0.0; give a number"),
        (["max_megabytes=5000"], "max_megabytes=5000.0; give a number"),
        (["max_pixels=1000000000"], "to 100,000,000"),
        (["host=no.such.host.invalid"], r"host=no\.such\.host\.invalid is no address of this machine"),
        (["host=192.0.2.1"], r"host=192\.0\.2\.1 is no address of this machine"),
        (["abstain_below=80"], "a number from 0 to 1"),
        (["tta=some"], "tta=some"),
    ],
)
def test_what_is_wrong_is_one_clear_line(compose, quick_run, overrides, said):
    with pytest.raises(BloodcellError, match=said):
        app.serve(typed(compose(f"checkpoint={quick_run}", "port=0", *overrides, verb="app"), AppConfig))


def test_a_taken_port_is_one_clear_line(compose, quick_run, page):
    with pytest.raises(BloodcellError, match=f"port={page.port} is taken on 127.0.0.1; choose another, or port=0"):
        app.serve(typed(compose(f"checkpoint={quick_run}", f"port={page.port}", verb="app"), AppConfig))


def test_without_the_extra_it_says_what_to_install(compose, monkeypatch):
    monkeypatch.setattr(app, "find_spec", lambda name: None)
    with pytest.raises(BloodcellError, match=r"needs starlette and uvicorn: pip install 'bloodcell\[app\]'"):
        app.serve(typed(compose("checkpoint=a", verb="app"), AppConfig))


def test_addresses():
    for host, address in (("127.0.0.1", r"http://127\.0\.0\.1:\d+"), ("0.0.0.0", r"http://127\.0\.0\.1:\d+")):
        with bound(host, 0) as listening:
            assert re.fullmatch(address, address_of(listening))
            assert is_loopback(listening) == (host == "127.0.0.1")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_an_address_of_version_6_is_in_brackets():
    try:
        listening = bound("::1", 0)
    except BloodcellError:
        pytest.skip("no IPv6 loopback here")
    with listening:
        assert re.fullmatch(r"http://\[::1\]:\d+", address_of(listening))
        assert is_loopback(listening)


def test_other_machines_are_warned_of_and_the_browser_is_opened(compose, quick_run, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("bloodcell.app.server.run_until_stopped", lambda app, listening: None)
    cfg = compose(f"checkpoint={quick_run}", "port=0", "host=0.0.0.0", "open_browser=true", verb="app")
    app.serve(typed(cfg, AppConfig))
    said = capsys.readouterr().out
    assert "warning: host=0.0.0.0 lets other machines in" in said
    assert opened
    assert f"the page is at {opened[0]} until Ctrl+C" in said


def test_interrupted_once_it_ends_and_twice_it_lets_go():
    server = server_of(None)
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, server.force_exit) == (True, False)
    server.handle_exit(signal.SIGINT, None)
    assert server.force_exit


def test_a_request_that_runs_as_it_ends_leaves_no_traceback(monkeypatch, capsys):
    """The server waits a moment, then cancels what still runs."""
    monkeypatch.setattr(server_module, "SHUTDOWN_SECONDS", 1)
    begun, ended = threading.Event(), threading.Event()

    async def wait_long(request):
        begun.set()
        await asyncio.sleep(60)

    slow = Starlette(routes=[Route("/examine", wait_long, methods=["POST"])])
    made, servers = server_of, []

    def recorded(app):
        servers.append(made(app))
        return servers[0]

    monkeypatch.setattr(server_module, "server_of", recorded)
    with bound("127.0.0.1", 0) as listening:

        def serve():
            run_until_stopped(slow, listening)
            ended.set()

        threading.Thread(target=serve, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=30)
        connection.request("POST", "/examine", b"picture")
        assert begun.wait(30)
        servers[0].should_exit = True
        assert ended.wait(30)
        connection.close()
    assert capsys.readouterr().err == ""
    assert not logging.getLogger("uvicorn.error").filters


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(quick_run, tmp_path, number):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = [sys.executable, "-m", "bloodcell", "app", f"checkpoint={quick_run}", "port=0", "device=cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=tmp_path, env=environment, **pipes) as process:
        said = iter(process.stdout)
        address = next(match[1] for line in said if (match := re.search(r"the page is at (\S+)", line)))
        with urllib.request.urlopen(address) as answer:
            assert answer.status == 200
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    closed, following = rest.strip().splitlines()
    assert closed == "the page is closed"
    assert following.endswith(f" predict FOLDER checkpoint={quick_run} output=FILE.csv")
    assert errors == "stopping ...\n"
    assert list(tmp_path.iterdir()) == []


def test_the_verb_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bloodcell", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert re.search(r"^  app +serve a page", capsys.readouterr().out, re.MULTILINE)
