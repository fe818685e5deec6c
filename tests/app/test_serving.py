"""The page's server: the same verdicts as everywhere else, and nothing for whoever is up to something."""

import base64
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bloodcell.app import routes, security
from bloodcell.app import server as server_module
from bloodcell.data import images, time_limit
from bloodcell.inference import predict

MB = 10**6


@pytest.fixture
def picture(write_image, tmp_path):
    """A picture's content."""
    return write_image(tmp_path / "picture.png", size=(60, 45)).read_bytes()


def raw(page, *parts):
    """Send bytes as they are, and return all that comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while more := connection.recv(65536):
            received += more
        return received


def first_answer(connection):
    """Return status and JSON of what comes while the client has not come to an end."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.getheader("Connection") == "close"
    return answer.status, json.loads(answer.read())


def post(page, *headers):
    """Return the head of a request that sends a file."""
    return "\r\n".join(["POST /examine?name=a HTTP/1.1", f"Host: {page.host}", *headers, "", ""]).encode()


@pytest.fixture
def predicted(compose, tmp_path, monkeypatch):
    """Predict files one by one, as the page does: predicted(run, files) -> out.csv."""

    def run(folder, files):
        monkeypatch.setattr(predict, "GROUP", 1)
        cfg = compose(f"checkpoint={folder}", f"output={tmp_path / 'out.csv'}", "abstain_below=0.8", verb="predict")
        cfg.images = [str(file) for file in files]
        predict.predict(cfg)
        return tmp_path / "out.csv"

    return run


@pytest.mark.parametrize("net", ["quick", "seeing"])
def test_a_line_of_the_table_is_that_of_predict_to_the_last_byte(
    request, net, predicted, smears, tmp_path, write_image
):
    page = request.getfixturevalue({"quick": "page", "seeing": "seeing"}[net])
    files = [smears.root / path for path in smears.table["path"][:5]]
    files += [write_image(tmp_path / "a, b.png"), write_image(tmp_path / "pictures" / "b.tif", size=(9, 70))]
    file = predicted(request.getfixturevalue(f"{net}_run"), files)
    header, *lines = file.read_bytes().splitlines(keepends=True)
    answers = [page.examine(file.read_bytes(), file)[1] for file in files]
    assert [answer["row"].encode() for answer in answers] == lines
    _, _, text = page.ask("GET", "/")
    assert f'data-header="{header.decode().replace(chr(34), "&#34;")}"' in text.decode()
    for answer, (_, row) in zip(answers, pd.read_csv(file, keep_default_na=False).iterrows(), strict=True):
        assert answer["probabilities"] == pytest.approx(list(row.filter(like="p_")), rel=1e-5)  # of six digits
        assert (answer["prediction"], answer["abstained"]) == tuple(row[["prediction", "abstained"]])
        assert answer["cell"] == row.get("cell", "")
        if "left" in row:  # the net looks for the cell
            assert list(map(str, answer["square"] or ["", "", ""])) == list(map(str, row[["left", "top", "side"]]))


def test_probabilities_are_those_of_the_evaluation(page, quick_run, smears):
    rows = pd.read_csv(quick_run / "predictions.csv", dtype={"path": str}).query("split == 'test'")
    for _, row in rows.head(6).iterrows():
        _, answer = page.examine((smears.root / row["path"]).read_bytes())
        np.testing.assert_allclose(answer["probabilities"], row.filter(like="p_").astype(float), rtol=0, atol=1e-6)


def decoded(address):
    head, _, content = address.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image).astype(int)


def test_what_is_shown_is_the_picture_and_in_the_square_where_the_net_looked(seeing, smears):
    _, answer = seeing.examine((smears.root / smears.table["path"][0]).read_bytes())
    picture, looked = decoded(answer["picture"]), decoded(answer["looked"])
    width, height = answer["size"]
    assert picture.shape == looked.shape == (480 * height // width, 480, 3)
    scale = 480 / width
    left, top, side = (round(scale * length) for length in answer["square"])
    changed = np.abs(picture - looked).max(axis=2) > 40  # more than a JPEG's own
    rows, columns = np.nonzero(changed)
    assert changed[top : top + side, left : left + side].mean() > 0.5
    assert top - 8 <= rows.min() <= rows.max() < top + side + 8
    assert left - 8 <= columns.min() <= columns.max() < left + side + 8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (None, "cannot be decoded"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(page, picture, content, reason):
    status, answer = page.examine(picture[:200] if content is None else content)
    assert status == 422
    assert list(answer) == ["reason"]
    assert reason in answer["reason"]
    assert "\n" not in answer["reason"]


def test_too_many_pixels_are_refused_undecoded(start, picture):
    small = start("max_pixels=2699")
    assert small.examine(picture) == (422, {"reason": "60 x 45 pixels; the limit is 2,699"})


def test_an_announced_size_is_refused_before_it_is_sent(page):
    begun = post(page, f"Content-Length: {200 * MB}")
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
        connection.sendall(begun)
        assert first_answer(connection) == (413, {"reason": "larger than 25 MB, the limit (max_megabytes)"})


def test_a_size_that_is_not_announced_is_refused_when_it_is_reached(start, picture):
    tight = start("max_megabytes=0.1")
    chunk = bytes(50_000)
    framed = f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    begun = post(tight, "Transfer-Encoding: chunked")
    with socket.create_connection(("127.0.0.1", tight.port), timeout=20) as connection:
        connection.sendall(begun + 3 * framed)
        assert first_answer(connection) == (413, {"reason": "larger than 0.1 MB, the limit (max_megabytes)"})
    assert tight.examine(iter([picture]), encode_chunked=True)[0] == 200


def test_six_at_once_and_one_of_200_mb(page, picture):
    def large(_):
        chunks = (bytes(MB) for _ in range(200))
        return page.examine(chunks, headers={"Content-Length": str(200 * MB)})

    def endless(_):
        return page.examine((bytes(MB) for _ in range(200)), encode_chunked=True)

    jobs = [large, endless, *[lambda number: page.examine(picture, f"{number}.png")] * 6]
    with ThreadPoolExecutor(len(jobs)) as pool:
        first, second, *others = [job.result() for job in [pool.submit(job, place) for place, job in enumerate(jobs)]]
    assert first == second == (413, {"reason": "larger than 25 MB, the limit (max_megabytes)"})
    assert {status for status, _ in others} == {200}
    assert len({tuple(answer["probabilities"]) for _, answer in others}) == 1
    assert [answer["row"].split(",")[0] for _, answer in others] == [f'"{number}.png"' for number in range(2, 8)]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "192.168.0.7", "[::2]", "a[", ""])
@pytest.mark.parametrize("path", ["/", "/app.js", "/nothing"])
def test_no_page_of_another_host(page, host, path):
    status, headers, body = page.ask("GET", path, headers={"Host": host})
    assert status == 400
    assert list(json.loads(body)) == ["reason"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9", "[::1]:7860", "LOCALHOST:1"])
def test_a_page_of_this_machine_by_each_of_its_names(page, host):
    assert page.ask("GET", "/", headers={"Host": host})[0] == 200


def test_a_page_for_other_machines_is_had_by_address_and_by_the_name_given(start):
    def statuses(listens_on, *hosts):
        page = start(f"host={listens_on}")
        return [page.ask("GET", "/", headers={"Host": host})[0] for host in hosts]

    everywhere = ["10.0.0.3:80", "[fe80::1]:80", "localhost", socket.gethostname(), "evil.example"]
    assert statuses("0.0.0.0", *everywhere) == [200, 200, 200, 200, 400]
    assert statuses("lab.example", "lab.example:80", "evil.example") == [200, 400]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},  # another program's page
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_other_page_may_send(page, picture, headers):
    status, answer = page.examine(picture, headers=headers)
    assert status == 403
    assert list(answer) == ["reason"]


def test_the_page_itself_may_send(page, picture):
    assert page.examine(picture, headers={"Origin": page.address, "Sec-Fetch-Site": "same-origin"})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../etc/passwd",
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/app.js/../../conf/app.yaml",
        "//etc/passwd",
        "/....//....//etc/passwd",
        "/app.py",
        "/examine/",
        "/app.js%00.png",
        "/templates/app.html",
    ],
)
def test_no_other_file_is_served(page, path):
    status, _, body = page.ask("GET", path)
    assert status == 404
    assert body == b"Not Found"


def test_a_name_is_never_a_path(page, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name in ("../../escape.png", "/etc/passwd", 'a"b\n,c.png', "", "C:\\x", "\udcff"):
        path = f"/examine?name={quote(name, errors='surrogateescape')}"
        status, _, body = page.ask("POST", path, picture)
        assert status == 200
        first = pd.read_csv(pd.io.common.StringIO(json.loads(body)["row"]), header=None, keep_default_na=False)[0][0]
        assert first == name.replace("\udcff", "\N{REPLACEMENT CHARACTER}")
    assert sorted(tmp_path.rglob("*")) == before


def test_other_methods_are_refused(page):
    assert page.ask("GET", "/examine")[0] == 405
    assert page.ask("POST", "/", b"")[0] == 405


def test_the_page_asks_for_nothing_from_elsewhere_and_a_browser_is_told_so(page):
    for path, kind in {
        "/": "html",
        "/app.js": "javascript",
        "/app.css": "css",
        "/page.css": "css",
        "/icon.svg": "svg",
    }.items():
        status, headers, body = page.ask("GET", path)
        assert (status, kind in headers["Content-Type"]) == (200, True)
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not any(word in text for word in ("http:", "https:", "@import", "url(", "<style", "onclick"))
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] is None
        assert headers["Access-Control-Allow-Origin"] is None


def test_whoever_stops_sending_is_let_go(page, monkeypatch):
    monkeypatch.setattr(routes, "SILENCE", 0.2)
    monkeypatch.setattr(security, "LINGER_SECONDS", 0.2)
    answer = raw(page, post(page, "Content-Length: 1000"), b"some of it")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"send it again" in answer


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_whoever_does_not_come_to_the_point_is_let_go(page, monkeypatch, begun):
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.2)
    assert raw(page, begun) == b""


def connected(page, stack, *parts):
    """Open a connection that stays until the end of the stack, and send parts."""
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=20))
    for part in parts:
        connection.sendall(part)
    return connection


def test_whoever_sends_a_little_now_and_then_has_a_limit_for_the_whole(page, monkeypatch):
    monkeypatch.setattr(routes, "WHOLE", 1.0)
    monkeypatch.setattr(security, "LINGER_SECONDS", 0.2)
    with ExitStack() as stack:
        slow = connected(page, stack, post(page, "Content-Length: 1000"))
        for _ in range(4):
            slow.sendall(b"a")
            time.sleep(0.2)
        assert first_answer(slow) == (
            408,
            {"reason": "the file did not arrive within 1 seconds, or stopped; send it again"},
        )


def test_slow_uploads_do_not_hold_up_the_others(page, picture):
    with ExitStack() as stack:
        for _ in range(2 * routes.AT_ONCE):
            connected(page, stack, post(page, "Content-Length: 1000"), b"some of it")
        start = time.monotonic()
        assert page.examine(picture)[0] == 200
        assert time.monotonic() - start < routes.SILENCE / 2


def test_files_together_have_a_limit_and_what_is_given_up_is_free_again(start, picture):
    tight = start("max_megabytes=0.1")
    with ExitStack() as stack:
        for _ in range(routes.AT_ONCE):
            connected(tight, stack, post(tight, "Content-Length: 100000"), bytes(99_000))
        time.sleep(1)
        status, answer = tight.examine(picture)
        assert (status, answer) == (503, {"reason": "too many files are arriving at the same time; send it again"})
    deadline = time.monotonic() + 20
    while tight.examine(picture)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTTP/1.1\r\nHost: loc", "a file", "what is never read"],
    ids=["idle", "head", "file", "answer"],
)
def test_the_slowest_of_too_many_connections_gives_way(page, picture, begun):
    parts = {
        "a file": [post(page, "Content-Length: 1000"), b"some of it"],
        "what is never read": [f"GET /app.js HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode() * 200],
    }.get(begun, [begun])
    with ExitStack() as stack:
        for _ in range(2 * server_module.CONNECTIONS + 6):
            connected(page, stack, *parts)
        time.sleep(0.5)  # until those that were closed have come to an end
        assert page.ask("GET", "/")[0] == 200
        assert page.examine(picture)[0] == 200


def test_a_client_that_goes_away_leaves_no_trace(page, picture, capfd):
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as connection:
        connection.sendall(post(page, "Content-Length: 1000") + b"some of it")
    assert page.examine(picture)[0] == 200
    assert capfd.readouterr().err == ""


def test_whatever_is_odd_of_an_image_is_said(start, limited, tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    _, known = start("abstain_below=1", change=limited(2.0)).examine(content)
    _, unknown = start("abstain_below=0", change=limited(0.5)).examine(content)
    assert (known["unlike"], known["abstained"]) == (False, True)
    assert (unknown["unlike"], unknown["abstained"]) == (True, False)


def test_a_file_without_a_net_is_judged_and_not_explained(start, seeing, seeing_run, picture):
    def without_net(engine):
        engine.classifier = None

    bare = start(run=seeing_run, change=without_net)
    (status, answer), (_, whole) = bare.examine(picture), seeing.examine(picture)
    assert status == 200
    assert answer["looked"] is None
    assert answer["row"] == whole["row"]
    assert "cannot be shown: its file has no net" in bare.ask("GET", "/")[2].decode()
    assert "cannot be shown" not in seeing.ask("GET", "/")[2].decode()


def test_a_net_whose_last_map_has_no_places_says_so(page, picture):
    assert page.examine(picture)[1]["looked"] is None
    assert "cannot be shown: no Grad-CAM of mobilenet_v2" in page.ask("GET", "/")[2].decode()


def test_an_image_that_takes_too_long_is_refused_and_the_page_goes_on(start, picture, monkeypatch):
    page = start()
    decode, ended = images._decode, threading.Event()

    def slow(path, *rest):
        while len(path) > len(picture) and not ended.is_set():
            sum(range(1000))
        return decode(path, *rest)

    monkeypatch.setattr(images, "_decode", slow)
    monkeypatch.setattr(time_limit, "SECONDS", 0.3)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(page.examine, picture + b" ")
            time.sleep(0.2)
            second = pool.submit(page.examine, picture)
            assert first.result(30) == (422, {"reason": "decoding takes longer than 30 seconds"})
            assert second.result(30)[0] == 200
    finally:
        ended.set()


def test_some_classes_alone_are_answered_and_that_is_said(start, picture):
    page = start("classes=[neutrophil,lymphocyte]")
    _, answer = page.examine(picture)
    assert len(answer["probabilities"]) == 2
    assert answer["prediction"] in ("LYMPHOCYTE", "NEUTROPHIL")
    assert (answer["other"] != "") <= answer["unlike"]
    text = page.ask("GET", "/")[2].decode()
    assert "It answers only LYMPHOCYTE, NEUTROPHIL, as asked" in text
    assert "errors are not promised for some classes alone" in text.replace("\N{NO-BREAK SPACE}", " ")
