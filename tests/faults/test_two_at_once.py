"""Two commands at the same moment with one cache and one output root: both right, or one refused in one line."""

from bloodcell.runtime import run_folder
from tests.faults.conftest import LEAN, contents, run_folders, wait_for
from tests.test_training import assert_same_run


def test_two_trainings_on_one_empty_cache(start, fault, tmp_path, small, smears_of):
    own = [*LEAN, "trainer.max_epochs=3", "data.reader.train_photographs=6", "data.reader.test_photographs=2"]
    own += ["data.reader.copies=3", f"outputs={tmp_path / 'outputs'}", f"cache.root={tmp_path / 'cache'}"]
    both = [start("train", *own) for _ in range(2)]  # both paint, check, and write the same features
    for process in both:
        process.end().assert_well()
    one, other = run_folders(tmp_path / "outputs")
    assert_same_run(one, other)
    alone = [*own[:-2], f"outputs={tmp_path / 'alone'}", f"cache.root={tmp_path / 'alone-cache'}"]
    start("train", *alone).end().assert_well()
    assert_same_run(one, *run_folders(tmp_path / "alone"))
    assert len(list((tmp_path / "cache" / "synthetic").iterdir())) == 1
    reads = (tmp_path / "cache" / "test_reads.csv").read_text().splitlines()
    assert len(reads) == 3  # the header, and a line of each
    fault("two at once: train", 2)


def test_a_run_is_resumed_once(start, fault, tmp_path, small, smears_of):
    own = [*LEAN, "finetune=full", "trainer.max_epochs=6", "callbacks.early_stopping=null", *smears_of(small, 6, 2, 3)]
    folder = tmp_path / "run"
    first = start("train", *own, f"cache.root={tmp_path / 'cache'}", f"outputs={tmp_path}", f"hydra.run.dir={folder}")
    first.wait_until((folder / "history.csv").exists)
    start("train", f"resume={folder}").end().assert_one_line(1, str(folder))  # held, or finished since
    first.end().assert_well()
    assert run_folder.read_run(folder)["status"] == "finished"
    fault("two at once: resume")


def test_two_predictions_into_one_file(start, fault, tmp_path, trained, crowd):
    own = [f"checkpoint={trained}", f"images={crowd}", "device=cpu", "features.backend=eager"]
    start("predict", *own, f"output={tmp_path / 'alone.csv'}").end().assert_well()
    first = start("predict", *own, f"output={tmp_path / 'both.csv'}")
    first.wait_until((tmp_path / "both.lock").exists)
    start("predict", *own, f"output={tmp_path / 'both.csv'}").end().assert_one_line(1, "both.csv")
    first.end().assert_well()
    assert (tmp_path / "both.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
    assert not (tmp_path / "both.lock").exists()
    fault("two at once: predict")


def test_two_audits_of_the_same_images(start, fault, tmp_path, painted):
    own = ["data=imagefolder", f"data.root={painted / 'images'}"]

    def audit(name):
        return start("audit", *own, f"cache.root={tmp_path / name}-cache", f"outputs={tmp_path / name}")

    audit("alone").end().assert_well()
    both = [audit("both")]
    wait_for((tmp_path / "both-cache").exists, "the first audit")
    both.append(audit("both"))
    for process in both:
        process.end().assert_well()
    pages = list((tmp_path / "both").rglob("report.html"))
    assert len(pages) == 2
    (alone,) = (tmp_path / "alone").rglob("report.html")
    names = ("sources.csv", "leaks.csv", "conflicts.csv", "duplicates.csv", "verdict.txt", "report.html")
    for page in pages:
        assert contents(page.parent, *names) == contents(alone.parent, *names)
    kept = [
        {file.name: file.read_bytes() for file in (tmp_path / f"{n}-cache/audits").iterdir()} for n in ("both", "alone")
    ]
    assert kept[0] == kept[1]
    fault("two at once: audit", 2)
