"""The verb audit: verdict, tables, report, and sources that later commands know."""

import shutil

import pandas as pd
import pytest

from bloodcell.audits.audit import originals_folder, run_audit
from bloodcell.data.known_sources import with_saved_sources
from bloodcell.data.readers import load_samples
from bloodcell.runtime.config import typed
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.verbs import AuditConfig, TrainConfig
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def painted(compose):
    """Return the Samples of small synthetic smears, with their true sources."""
    return load_samples(typed(compose(*SMALL), TrainConfig).data)


@pytest.fixture(scope="module")
def audited(compose, painted, tmp_path_factory):
    """Audit the files of small smears as a folder of unknown sources, with their originals."""
    folder = tmp_path_factory.mktemp("audit") / "run"
    cache = folder.parent / "cache"
    arguments = ["data=imagefolder", f"data.root={painted.root / 'images'}", f"cache.root={cache}"]
    cfg = compose(*arguments, f"data.originals={painted.root / 'originals'}", verb="audit")
    run_audit(cfg, folder)
    return folder, cache, typed(cfg, AuditConfig).data


def test_it_writes_all_tables_and_a_page_that_loads_nothing_else(audited):
    folder, cache, _ = audited
    for name in ("sources", "leaks", "conflicts", "duplicates", "unreadable"):
        assert (folder / f"{name}.csv").is_file()
    page = (folder / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "data:image/png;base64," in page
    assert (folder / "verdict.txt").read_text().splitlines()[0] in page
    assert not list(cache.rglob("*.npy"))  # intermediate results


def test_it_finds_the_true_sources(audited, painted):
    folder, *_ = audited
    sources = pd.read_csv(folder / "sources.csv")
    assert list(sources.columns) == ["path", "source", "photograph", "evidence", "strength"]
    truth = painted.table.assign(path=painted.table["path"].str.removeprefix("images/"))
    both = sources.merge(truth, on="path", suffixes=("", "_true"))
    assert len(both) == len(painted.table)
    assert both.groupby("source")["source_true"].nunique().max() == 1
    assert both.groupby("source_true")["source"].nunique().max() == 1


def test_later_commands_know_the_sources(audited):
    _, cache, data = audited
    samples = load_samples(data)
    assert not samples.sources_known()
    assert with_saved_sources(samples, cache).sources_known()


def test_originals_folder(tmp_path):
    assert originals_folder("auto", tmp_path) is None
    (tmp_path / "a" / "b" / "JPEGImages").mkdir(parents=True)
    assert originals_folder("auto", tmp_path) == tmp_path / "a" / "b" / "JPEGImages"
    assert originals_folder("none", tmp_path) is None
    with pytest.raises(BloodcellError, match=r"no such folder: data\.originals="):
        originals_folder(str(tmp_path / "absent"), tmp_path)


def test_the_same_command_goes_on_in_a_folder_that_a_killed_one_left(compose, class_folders, tmp_path, monkeypatch):
    own = ["data=imagefolder", f"data.root={class_folders({'a': 3, 'b': 3})}", f"cache.root={tmp_path / 'cache'}"]
    cfg = compose(*own, verb="audit")
    with monkeypatch.context() as patch:
        patch.setattr("bloodcell.audits.audit.write_report", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_audit(cfg, tmp_path / "run")
    with pytest.raises(BloodcellError, match="is not empty; new results need a new folder"):
        run_audit(compose(*own, "data.val_fraction=0.3", verb="audit"), tmp_path / "run")
    run_audit(cfg, tmp_path / "run")
    run_audit(cfg, tmp_path / "whole")
    names = {file.name for file in (tmp_path / "whole").iterdir()}
    assert {file.name for file in (tmp_path / "run").iterdir()} == names
    for name in names - {"report.html"}:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_page_says_in_green_if_no_image_is_a_copy_and_what_an_audit_cannot_see(compose, class_folders, tmp_path):
    root = class_folders({"a": 3, "b": 3})

    def audited_page(name):
        run_audit(compose("data=imagefolder", f"data.root={root}", verb="audit"), tmp_path / name)
        return (tmp_path / name / "report.html").read_text(encoding="utf-8")

    alone = audited_page("alone")
    assert '<section class="verdict clean"' in alone
    assert "No image is a copy of another" in alone
    shutil.copy(root / "a" / "0.png", root / "a" / "copy.png")
    copied = audited_page("copied")
    assert '<section class="verdict"' in copied
    assert "No image is a copy of another" not in copied
    assert "cannot be seen in the images whether two cells are of one patient" in alone
    assert "cannot be seen in the images whether two cells are of one patient" in copied
